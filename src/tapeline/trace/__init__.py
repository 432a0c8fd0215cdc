"""What became of one trade, from the frame to its bars."""

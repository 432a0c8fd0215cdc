"""What was refused: to be looked at, and sent again once it can be read."""

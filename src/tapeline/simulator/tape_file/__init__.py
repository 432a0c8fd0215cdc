"""What is in a tape: files as people have them, read into one table of trades."""

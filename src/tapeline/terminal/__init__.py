"""Bars on a terminal: a table that fits it, and candles that move."""

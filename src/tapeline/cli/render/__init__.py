"""Bars on a terminal: table, chart, watch."""

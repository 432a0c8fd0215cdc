"""Bars and trades as files: one folder a day, one file a symbol."""

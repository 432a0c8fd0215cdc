"""Bars over HTTP: JSON, CSV and Arrow, live push, and a page that draws them."""

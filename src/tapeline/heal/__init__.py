"""`tapeline heal`: what a feed with numbers has missed, fetched by hand."""

"""Topics, offsets, and what producers report there."""

"""Rebuild a layer from the one below it, beside the running stream."""

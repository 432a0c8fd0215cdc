"""The live view: open bars, folded from the log of trades beside the API."""

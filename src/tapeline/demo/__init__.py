"""The parts of `tapeline demo`."""

"""`tapeline demo` (to come)."""


def demo() -> None:
    """Run the demo."""

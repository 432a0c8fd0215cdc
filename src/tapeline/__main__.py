"""`python -m tapeline` is `tapeline`."""

from tapeline.cli import main

main()

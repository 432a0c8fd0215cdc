"""`python -m tapeline` is `tapeline`."""

from tapeline.cli.app import main

main()

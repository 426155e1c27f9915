"""`python -m quanhui`: the same as the command `quanhui`."""

from quanhui.entry.cli import main

main()

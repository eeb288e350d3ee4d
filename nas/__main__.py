"""`python -m nas`: the same as `nas`."""

from nas.commands.app import main

main()

"""python -m blendlaw: the command line."""

from blendlaw.cli import main

main()

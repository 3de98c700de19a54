"""The command line, and nothing but: arguments in, exit codes out."""

from chaosgrade.cli.main import main

__all__ = ["main"]

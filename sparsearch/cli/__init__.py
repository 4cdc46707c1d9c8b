"""The command line: parse, call, print."""

from sparsearch.cli.main import main

__all__ = ["main"]

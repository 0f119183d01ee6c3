"""Arguments in, a namespace or one short usage error out; positionals and options may come in any order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["Parser", "UsageError"]


class UsageError(Exception):
    """The command line cannot be understood; ends with status 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one sentence instead of printing the whole usage."""

    def __init__(self, prog: str, *, usage: str, description: str) -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Called by argparse for every mistake."""
        raise UsageError(f'{self.prog}: {message}. Run "{self.prog} --help" to see its use.')

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse with positionals and options interleaved: ``ask clip.mp4 --frames 8 "What moves?"``."""
        return self.parse_intermixed_args(list(argv))

"""``videolm index``: media in, their features in a folder out, for questions that need not decode or encode them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from videolm.cli import flags
from videolm.cli.output import one_line, print_warnings
from videolm.cli.progress import progress_bar
from videolm.cli.sessions import check_options, open_session

USAGE = "[options] MEDIA..."
DESCRIPTION = (
    "Decode and encode media ahead of time and keep the result. Questions with the same --cache, model and options\n"
    "about frames then need neither; what is there already is left as it is. A medium that cannot be read is told and\n"
    "the others go on."
)
FOLDER = Path.home() / ".cache" / "videolm"

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("media", nargs="+", metavar="MEDIA", help=f"each is {flags.MEDIA_HELP}")
    flags.add_cache_flags(parser, default=FOLDER)
    flags.add_model_flags(parser)
    flags.add_media_flags(parser)


def run(args: Namespace) -> int:
    """Index all media, and say what became of each."""
    options = flags.media_options(args)
    check_options(options)
    session = open_session(args)
    counts = {"encoded": 0, "there already": 0, "failed": 0}
    with progress_bar("Indexing", unit=" media") as update:
        for done, indexed in enumerate(session.index(args.media, **options), start=1):
            state = "failed" if indexed.report is None else "there already" if indexed.was_there else "encoded"
            counts[state] += 1
            if indexed.report is None:
                print(one_line(f"videolm: {indexed.error}"), file=sys.stderr)
            else:
                print(f"{indexed.report.source}: {indexed.report.visual_tokens} visual tokens, {state}", flush=True)
            print_warnings(indexed.warnings)
            update(done, len(args.media))
    print(f"{', '.join(f'{count} {state}' for state, count in counts.items())}; use them with --cache {args.cache}")
    return 1 if counts["failed"] else 0

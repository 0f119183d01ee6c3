"""``videolm ask``: media and a question in, a streamed answer or one JSON object out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import Any

from videolm.cli import flags
from videolm.cli.output import print_json, print_warnings
from videolm.cli.parser import UsageError
from videolm.cli.sessions import check_media, check_options, open_session, show_downloads
from videolm.contracts import Answer
from videolm.errors import ArgumentError

USAGE = "[options] MEDIA... QUESTION"
DESCRIPTION = "Ask one question about one or more videos and pictures. The answer is streamed to standard output."

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "report", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument(
        "words", nargs="+", metavar="MEDIA... QUESTION", help=f"each MEDIA is {flags.MEDIA_HELP}; the question is last"
    )
    flags.add_model_flags(parser)
    flags.add_media_flags(parser)
    flags.add_cache_flags(parser)
    flags.add_answer_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object with the answer and what it cost")
    parser.add_argument("--no-stream", action="store_true", help="print the answer when it is complete")


def run(args: Namespace) -> int:
    """Answer the question."""
    *media, question = args.words
    if not media:
        raise UsageError(
            f'videolm ask: only one argument ("{question}"): expected at least one MEDIA and then a QUESTION. '
            'Write: videolm ask clip.mp4 "What is moving?"'
        )
    if not question.strip():
        raise ArgumentError(
            'The question is empty: expected some text after the media. Write it in quotes: "What moves?"'
        )
    options = flags.answer_options(args)
    check_options(options)
    check_media(media)
    session = open_session(args)
    if args.json or args.no_stream:
        with show_downloads(session):
            answer = session.ask(media, question, **options)
        print_json(report(answer)) if args.json else print(answer.text)
    else:
        with show_downloads(session):
            stream = session.stream(media, question, **options)
        for piece in stream:
            print(piece, end="", flush=True)
        print()
        answer = stream.answer
    sys.stdout.flush()
    print_warnings(answer.warnings)
    return 0


def report(answer: Answer) -> dict[str, Any]:
    """An answer as the object that ``--json`` prints."""
    return {
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "media": [asdict(item) for item in answer.media],
        "usage": asdict(answer.usage),
        "timings_s": dict(answer.timings_s),
        "tokens_per_s": answer.tokens_per_s,
    }

"""``videolm chat``: questions line by line in, streamed answers out; the media are decoded and encoded once."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from videolm.cli import flags
from videolm.cli.output import one_line, print_warnings
from videolm.cli.sessions import check_media, check_options, open_session, show_downloads
from videolm.errors import VideoLMError

if TYPE_CHECKING:
    from videolm.session import Conversation

USAGE = "[options] MEDIA..."
DESCRIPTION = (
    "Talk about videos and pictures over several turns, one line each; they are decoded and encoded once.\n"
    f"{'/exit'} or the end of input ends the conversation. Standard input may be a file or a pipe."
)
EXIT_WORD = "/exit"
PROMPT = "> "

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("media", nargs="+", metavar="MEDIA", help=f"each is {flags.MEDIA_HELP}")
    flags.add_model_flags(parser)
    flags.add_media_flags(parser)
    flags.add_cache_flags(parser)
    flags.add_answer_flags(parser)


def run(args: Namespace) -> int:
    """Answer line after line."""
    options = flags.answer_options(args)
    check_options(options)
    check_media(args.media)
    session = open_session(args)
    with show_downloads(session):
        conversation = session.conversation(args.media, **options)
    print_warnings(conversation.warnings)
    is_terminal = sys.stdin.isatty()
    while (question := _next_question(is_terminal)) is not None:
        if not question.strip():
            continue
        try:
            _answer(conversation, question)
        except VideoLMError as error:
            # A person at the terminal can put it another way; a script must see that it failed.
            if not is_terminal:
                raise
            print(one_line(f"videolm: {error}"), file=sys.stderr)
    return 0


def _answer(conversation: Conversation, question: str) -> None:
    stream = conversation.stream(question)
    for piece in stream:
        print(piece, end="", flush=True)
    print(flush=True)
    print_warnings(stream.answer.warnings)


def _next_question(is_terminal: bool) -> str | None:
    try:
        line = input(PROMPT if is_terminal else "")
    except EOFError:
        if is_terminal:
            print()
        return None
    return None if line.strip() == EXIT_WORD else line

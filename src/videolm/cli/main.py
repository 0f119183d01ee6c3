"""The ``videolm`` command: a command line in, an exit status out.

Status 0 is success, 1 a mistake in the input (one line on standard error), 2 a mistake in the command line, 130 an
interruption by Ctrl-C and 141 a reader that has gone away.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

from videolm.cli.parser import Parser, UsageError
from videolm.errors import VideoLMError

INTERRUPTED = 130
READER_GONE = 141
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)

__all__ = ["COMMANDS", "INTERRUPTED", "guarded", "main"]

COMMANDS = {
    "ask": "ask one question about videos and pictures",
    "chat": "talk about the same videos and pictures over several turns",
    "index": "encode videos and pictures ahead of questions about them",
    "serve": "answer over the network, with an OpenAI-compatible API and a page",
    "inspect": "show exactly what the model sees of a video or picture",
    "models": "list the models that can be loaded",
    "convert": "write a model in another layout of files",
    "train": "train a model (train sft CONFIG.yaml)",
    "evaluate": "score a model on a task",
}
"""Each is a module of this package with ``add_arguments(parser)``, ``USAGE``, ``DESCRIPTION`` and ``run(args)``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(words))


def guarded(run: Callable[[], int]) -> int:
    """Run something and turn what a person did wrong into one line on standard error and a status."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is no UTF-8 must not stop an answer from being printed.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        status = run()
        sys.stdout.flush()
    except UsageError as error:
        return _complain(str(error), status=2)
    except VideoLMError as error:
        return _complain(f"videolm: {error}", status=1)
    except BrokenPipeError:
        return _reader_gone()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exit_:  # argparse, after --help
        return exit_.code if isinstance(exit_.code, int) else 0
    except Exception as error:
        if message := _out_of_memory(error) or _not_writable(error):
            return _complain(f"videolm: {message}", status=1)
        raise
    return status


def _open_closed_streams() -> None:
    """Whoever closed a standard stream (``>&-``) gives no input, or wants no output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - stays open to the end


def _dispatch(words: Sequence[str]) -> int:
    if not words:
        raise UsageError(f'videolm: no command: expected one of {", ".join(COMMANDS)}. Run "videolm --help".')
    name = words[0]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        print(_version())
        return 0
    if name not in COMMANDS:
        raise UsageError(_unknown(name))
    command = importlib.import_module(f"videolm.cli.{name}")
    parser = Parser(f"videolm {name}", usage=command.USAGE, description=command.DESCRIPTION)
    command.add_arguments(parser)
    args = parser.parse(words[1:])
    if not sys.warnoptions:
        # What a library warns its programmers of is no message for the person at the terminal.
        warnings.simplefilter("ignore")
    status: int = command.run(args)
    return status


def _overview() -> str:
    lines = [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: videolm COMMAND ...",
            "",
            "Ask questions about videos and pictures with open video language models.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  -h, --help  show this text; after a command, that command's options",
            "  --version   show the version",
            "",
            'example: videolm ask clip.mp4 "What is moving?"',
        ]
    )


def _version() -> str:
    from importlib.metadata import version

    return f"videolm {version('videolm')}"


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f'Did you mean "videolm {nearest[0]}"?' if nearest else 'Run "videolm --help".'
    kind = "option" if name.startswith("-") else "command"
    return f'videolm: no {kind} is called "{name}": expected one of {", ".join(COMMANDS)}. {hint}'


def _complain(message: str, *, status: int) -> int:
    from videolm.cli.output import one_line

    print(one_line(message), file=sys.stderr)
    return status


def _reader_gone() -> int:
    _drop_output()
    return READER_GONE


def _drop_output() -> None:
    # Python flushes standard output once more on its way out, and would complain about the same pipe or disk.
    with suppress(OSError, ValueError):  # ValueError: a stream without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _not_writable(error: Exception) -> str | None:
    if not isinstance(error, OSError) or error.errno not in NOT_WRITABLE:
        return None
    if error.filename is None:
        _drop_output()
    what = error.filename or "The output"
    return (
        f"{what} cannot be written: {error.strerror}. Expected room and permission to write there. "
        "Make some, or write elsewhere."
    )


def _out_of_memory(error: Exception) -> str | None:
    # torch's class is known by name, since naming it would import torch.
    if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
        return None
    return (
        "The memory of this machine or accelerator is not enough: expected room for the weights and the visual tokens. "
        "Use fewer --frames, a smaller --dtype or a smaller model."
    )


if __name__ == "__main__":
    sys.exit(main())

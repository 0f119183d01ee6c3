"""``videolm evaluate``: a task and a model in, a table of scores out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from videolm.cli import flags
from videolm.cli.sessions import check_options, open_session

USAGE = "--task NAME [--model NAME] [--keep-visual-tokens X] [--limit N] [--out DIR]"
DESCRIPTION = (
    "Score a model on a task. With --out the answers are kept as they come, so that an evaluation that was\n"
    "interrupted goes on where it was, and report.md and report.json are written at the end."
)

# The engine answers them together; more at a time gain little, and hold the pixels of more media.
_AT_ONCE = 8

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("--task", required=True, metavar="NAME", help="moving-shapes")
    flags.add_model_flags(parser)
    flags.add_reduction_flags(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="ask only the first N questions")
    parser.add_argument("--out", metavar="DIR", help="folder for predictions.jsonl, report.md and report.json")


def run(args: Namespace) -> int:
    """Ask all questions and print the report."""
    from videolm.evaluation.runner import run as evaluate
    from videolm.evaluation.tasks.registry import task_named

    task_named(args.task)  # A wrong name is told before a model is loaded.
    options = flags.reduction_options(args)
    check_options(options)
    report = evaluate(args.task, open_session(args), limit=args.limit, out=args.out, at_once=_AT_ONCE, **options)
    print(report.as_markdown(), end="")
    return 0

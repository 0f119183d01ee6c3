"""``videolm convert``: a model's folder or hub name in, the same model in another layout of files out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from videolm.cli.flags import add_base_flag
from videolm.cli.progress import progress_bar

USAGE = "SRC DST --layout hf|hf5|original [--base NAME] [--drop] [--max-shard-size SIZE]"
DESCRIPTION = (
    "Write a model in another layout of files: configuration, weights, tokenizer and processor. hf is read by every\n"
    "transformers release, hf5 is what its fifth writes, original is what the original code reads. Tensors are copied\n"
    "one by one; DST appears complete or not at all."
)

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("source", metavar="SRC", help="the model: a folder or a Hugging Face name")
    parser.add_argument("target", metavar="DST", help="the folder to make; one that is there must be empty")
    parser.add_argument("--layout", required=True, choices=("hf", "hf5", "original"), help="how the files are made")
    add_base_flag(parser)
    parser.add_argument(
        "--drop", action="store_true", help="leave out what the layout cannot hold, which is an error otherwise"
    )
    parser.add_argument(
        "--max-shard-size", default="5GB", metavar="SIZE", help="most bytes in one file, such as 200MB; 5GB if left out"
    )


def run(args: Namespace) -> int:
    """Convert, and say what is there now and what was dropped."""
    from videolm.families.auto import resolve
    from videolm.families.convert import convert

    with progress_bar("Writing", unit=" files") as update:
        done = convert(
            resolve(args.source),
            Path(args.target).expanduser(),
            layout=args.layout,
            base=args.base,
            drop=args.drop,
            max_shard_size=args.max_shard_size,
            progress=update,
        )
    print(f"{done.family} in the layout {done.layout}, {done.num_tensors} tensors, is in {done.folder}")
    if done.lost:
        print(f"Dropped: {done.lost}")
    for convention in done.changed:
        print(f"Readers of this layout change {convention}.")
    if not done.has_processor:
        print("There was no tokenizer, so neither it nor the processor was written.")
    return 0

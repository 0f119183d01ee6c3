"""``videolm train``: a configuration file in, a trained model in its output folder out."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from videolm.cli.main import INTERRUPTED

USAGE = "sft CONFIG [--resume]"
DESCRIPTION = (
    "Train a model as a YAML file says. sft: supervised fine-tuning, or training from scratch, on conversations about\n"
    "videos and pictures. docs/training.md lists the keys of the file."
)

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("method", choices=("sft",), metavar="METHOD", help="sft, supervised fine-tuning")
    parser.add_argument("config", metavar="CONFIG", help="the YAML file of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in the run's output folder"
    )


def run(args: Namespace) -> int:
    """Train, and say where the model or the checkpoint is."""
    from videolm.training.sft import train

    result = train(args.config, resume=args.resume)
    if os.environ.get("RANK", "0") != "0":  # torchrun's other processes have nothing to add.
        return INTERRUPTED if result.ending == "stopped" else 0
    if result.ending == "finished":
        print(f"{result.step} steps done; the model is in {result.export}")
        return 0
    if result.ending == "time_limit":
        print(f"Time is up after {result.step} steps; the model so far is in {result.export}. Go on with --resume.")
        return 0
    print(f"Stopped after {result.step} steps; the checkpoint is in {result.output_dir}. Go on with --resume.")
    return INTERRUPTED

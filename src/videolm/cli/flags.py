"""The options that several commands share, and what they say to a session."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

__all__ = [
    "add_answer_flags",
    "add_base_flag",
    "add_cache_flags",
    "add_media_flags",
    "add_model_flag",
    "add_model_flags",
    "add_reduction_flags",
    "answer_options",
    "media_options",
    "reduction_options",
]

REDUCTION_OPTIONS = ("visual_token_budget", "token_reduction")
MEDIA_OPTIONS = ("frames", "fps", *REDUCTION_OPTIONS, "allow_private_hosts")
ANSWER_OPTIONS = (*MEDIA_OPTIONS, "max_new_tokens", "temperature", "top_p", "seed", "system")
MEDIA_HELP = "a video, a picture, a GIF, a folder of frames, or an http(s) URL of one"


def add_model_flag(parser: ArgumentParser) -> None:
    """Which model."""
    parser.add_argument(
        "--model", metavar="NAME", help="a folder or a Hugging Face name; the bundled model when left out"
    )
    add_base_flag(parser)


def add_base_flag(parser: ArgumentParser) -> None:
    """What a model tunes."""
    parser.add_argument(
        "--base", metavar="NAME", help="the model that a LoRA adapter or a projector belongs to, if it does not name it"
    )


def add_model_flags(parser: ArgumentParser) -> None:
    """Which model, where and how exactly."""
    add_model_flag(parser)
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", metavar="NAME", help="auto (default), float32, bfloat16, float16")
    parser.add_argument(
        "--quantize", metavar="NAME", help="int8 or int4: keep the decoder's weights in so many bits, to save memory"
    )
    parser.add_argument(
        "--rope-policy", metavar="NAME", help="fixed, auto or none: how far positions are stretched for long videos"
    )


def add_media_flags(parser: ArgumentParser) -> None:
    """What is taken from the media."""
    parser.add_argument(
        "--frames",
        type=_number_or_auto,
        metavar="N",
        help="take N frames of each video, spread evenly; auto: as many as its length is worth and the context holds",
    )
    parser.add_argument("--fps", type=float, metavar="X", help="take X frames of each second of a video instead")
    add_reduction_flags(parser)
    parser.add_argument(
        "--allow-private-hosts",
        action="store_true",
        default=None,
        help="let a URL point into this machine or its private network",
    )


def add_reduction_flags(parser: ArgumentParser) -> None:
    """How many of a video's tokens are kept."""
    parser.add_argument(
        "--keep-visual-tokens",
        dest="visual_token_budget",
        type=float,
        metavar="X",
        help="keep this share of each video's visual tokens, such as 0.5; left out, all of them",
    )
    parser.add_argument(
        "--token-reduction",
        metavar="NAME",
        help="evs (default) drops patches that hardly changed since the frame before; fastvid merges patches alike",
    )


def add_cache_flags(parser: ArgumentParser, *, default: Path | None = None) -> None:
    """Where encoded media are kept."""
    kept = "keep encoded media in this folder, and use those that are there"
    parser.add_argument(
        "--cache",
        type=Path,
        default=default,
        metavar="DIR",
        help=kept if default is None else f"{kept} (default: {default})",
    )
    parser.add_argument(
        "--cache-gb", type=float, metavar="X", help="let the folder hold X GB (default: 10), the last used ones"
    )


def add_answer_flags(parser: ArgumentParser) -> None:
    """How the answer is generated."""
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="end the answer after N tokens")
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="X",
        help="draw tokens at this temperature; left out, the likeliest is taken",
    )
    parser.add_argument(
        "--top-p", type=float, metavar="X", help="draw only from the likeliest tokens up to this probability"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="make drawing repeatable")
    parser.add_argument("--system", metavar="TEXT", help="a system prompt in place of the model's own")


def media_options(args: Namespace) -> dict[str, Any]:
    """The media options that were given, by the names a session knows."""
    return _given(args, MEDIA_OPTIONS)


def answer_options(args: Namespace) -> dict[str, Any]:
    """The media and answer options that were given, by the names a session knows."""
    return _given(args, ANSWER_OPTIONS)


def reduction_options(args: Namespace) -> dict[str, Any]:
    """The options about fewer visual tokens that were given, by the names a session knows."""
    return _given(args, REDUCTION_OPTIONS)


def _number_or_auto(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a whole number nor auto") from None


def _given(args: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(args, name)) is not None}

"""``videolm inspect``: media in, a contact sheet of exactly what the model sees and the same in words or JSON out."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videolm.cli import flags
from videolm.cli.output import print_json, print_warnings
from videolm.cli.parser import UsageError
from videolm.cli.progress import progress_bar
from videolm.cli.sessions import check_media, check_options
from videolm.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

    from videolm.contracts import VisualInput
    from videolm.processing.contact_sheet import Kept
    from videolm.processing.processor import Processor

USAGE = "[options] MEDIA... (--out SHEET.png | --json)"
DESCRIPTION = (
    "Show exactly what the model sees: the frames that were taken with their times, the tiles of a picture, the\n"
    "number of visual tokens. The pixels of the sheet are read back from the model's input."
)
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("media", nargs="+", metavar="MEDIA", help=f"each is {flags.MEDIA_HELP}")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"write the sheet here ({', '.join(FORMATS)})")
    parser.add_argument("--json", action="store_true", help="print what the sheet shows as one JSON object")
    flags.add_model_flag(parser)
    flags.add_media_flags(parser)


def run(args: Namespace) -> int:
    """Write the sheet and say what is on it."""
    if args.out is None and not args.json:
        raise UsageError("videolm inspect: neither --out nor --json: expected at least one. Add --out sheet.png.")
    options = flags.media_options(args)
    check_options(options)
    if args.out is not None:
        _check_out(args.out)
    check_media(args.media)

    from videolm.processing.contact_sheet import contact_sheet, describe
    from videolm.session import load_reader

    reader = load_reader(args.model, base=args.base)
    with progress_bar("Downloading", unit="B") as update:
        items = reader.inspect(args.media, options, on_download=update)
    facts = describe(items, reader.processor)
    if args.out is not None:
        kept = [_kept(visual, reader.processor) for _, visual in items]
        _write(contact_sheet(items, reader.processor, kept), args.out)
    if args.json:
        print_json(facts)
    else:
        print("\n".join([*(_line(medium) for medium in facts["media"]), f"The sheet is in {args.out}."]))
    print_warnings(warning for medium in facts["media"] for warning in medium["warnings"])
    return 0


def _kept(visual: VisualInput, processor: Processor) -> Kept | None:
    """Which patches of a video stay, where some are left out and their pixels tell which."""
    from videolm.models.reduction import kept_patches

    if visual.kind == "image" or visual.budget.fraction == 1:
        return None
    kept = kept_patches(visual.pixel_values, processor.tokens.video.within(visual.budget))
    return None if kept is None else [frame.numpy() for frame in kept]


def _line(medium: Mapping[str, Any]) -> str:
    tokens = f"{medium['visual_tokens']} visual tokens"
    if medium.get("token_reduction"):
        tokens = f"{medium['visual_tokens']} of {medium['full_visual_tokens']} visual tokens"
    if medium["kind"] == "video":
        times = ", ".join(f"{time:.2f}" for time in medium["frame_times_s"])
        what = f"{medium['num_frames']} of {medium['num_source_frames']} frames" + (f", at {times} s" if times else "")
    else:
        what = f"{medium['num_tiles']} tiles"
    size = f"{medium['input_width']}x{medium['input_height']}"
    return f"{medium['source']}: {medium['kind']}, {what}, each {size} pixels; {tokens}"


def _check_out(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise ArgumentError(
            f"--out is {path}: expected a name that ends in one of {', '.join(FORMATS)}. Write --out sheet.png."
        )
    if not path.parent.is_dir():
        raise ArgumentError(
            f"--out is {path}, but there is no folder {path.parent}: expected one that exists. Make it first."
        )
    if path.is_dir():
        raise ArgumentError(f"--out is {path}, which is a folder: expected a file to write. Add a name to it.")


def _write(sheet: Image.Image, path: Path) -> None:
    """Write the file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            sheet.save(file, FORMATS[path.suffix.lower()])
        unfinished.replace(path)
    except (OSError, ValueError) as error:  # ValueError: more pixels than the format can hold
        raise ArgumentError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}. Expected a folder that this user "
            f"may write to, and a format for a sheet of {sheet.width}x{sheet.height} pixels. Choose another --out; PNG "
            "holds any size."
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)

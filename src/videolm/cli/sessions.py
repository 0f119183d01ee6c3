"""Flags in, a loaded session out; and the checks worth making before a large model is loaded."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from videolm.cli.progress import progress_bar

if TYPE_CHECKING:
    from videolm.session import Session

__all__ = ["check_media", "check_options", "open_session", "show_downloads"]


def check_media(media: Sequence[str]) -> None:
    """Refuse what is missing or plainly no medium; what a URL leads to is seen when it is fetched."""
    from videolm.media.load import check_at_sight

    for source in media:
        check_at_sight(source)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an impossible value."""
    from videolm.options import Options

    Options.parse(options)


def open_session(args: Namespace) -> Session:
    """Load the model that the flags name."""
    from videolm.session import load

    with progress_bar("Loading the model", unit=" tensors") as update:
        return load(args.model, device=args.device, dtype=args.dtype, quantize=args.quantize, progress=update)


@contextmanager
def show_downloads(session: Session) -> Iterator[None]:
    """Show a bar while the session downloads media."""
    with progress_bar("Downloading", unit="B") as update:
        session.on_download = update
        try:
            yield
        finally:
            session.on_download = None

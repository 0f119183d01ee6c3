"""Flags in, a loaded session out; and the checks worth making before a large model is loaded."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from videolm.cli.progress import progress_bar
from videolm.errors import ArgumentError

if TYPE_CHECKING:
    from videolm.engine.vision_cache import VisionCacheConfig
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


def open_session(args: Namespace, *, cache: VisionCacheConfig | None = None) -> Session:
    """Load the model that the flags name; ``cache``: how encoded media are kept, but for what the flags say."""
    from videolm.session import load

    cache = _cache(args, cache)
    with progress_bar("Loading the model", unit=" tensors") as update:
        return load(
            args.model,
            base=args.base,
            device=args.device,
            dtype=args.dtype,
            quantize=args.quantize,
            rope_policy=args.rope_policy,
            cache=cache,
            progress=update,
        )


def _cache(args: Namespace, cache: VisionCacheConfig | None) -> VisionCacheConfig | None:
    """With the folder that the flags of ``add_cache_flags`` name, where the command has them."""
    from videolm.engine.vision_cache import VisionCacheConfig

    folder, num_gb = getattr(args, "cache", None), getattr(args, "cache_gb", None)
    if num_gb is not None and not 0 < num_gb < 1e6:
        raise ArgumentError(f"--cache-gb is {num_gb:g}: expected a number of GB above 0. Leave it out for 10.")
    if folder is None and num_gb is not None:
        raise ArgumentError(f"--cache-gb is {num_gb:g}, but there is no --cache: expected both. Name a folder.")
    if folder is None:
        return cache
    cache = replace(cache or VisionCacheConfig(), folder=folder)
    return cache if num_gb is None else replace(cache, max_folder_bytes=int(num_gb * 1e9))


@contextmanager
def show_downloads(session: Session) -> Iterator[None]:
    """Show a bar while the session downloads media."""
    with progress_bar("Downloading", unit="B") as update:
        session.on_download = update
        try:
            yield
        finally:
            session.on_download = None

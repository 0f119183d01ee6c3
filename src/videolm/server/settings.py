"""What a server allows, keeps and waits for: one frozen dataclass, every number checked once, when it is set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from videolm.errors import ArgumentError
from videolm.generation.params import check_number, check_whole
from videolm.media.limits import MediaLimits

MEDIA = MediaLimits(max_bytes=128 << 20, max_frames=256)
"""Less than a person may ask of an own machine: many downloads, and pixels of many videos, are in memory at once."""
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
"""A page's scheme, host and port as the header Origin has them (RFC 6454, section 6.2)."""

__all__ = ["MEDIA", "ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of one server; the defaults suit one machine whose users are not all known."""

    host: str = "127.0.0.1"
    """Listen at this address."""
    port: int = 8000
    """Listen at this port; 0 for any that is free."""
    api_key: str | None = None
    """Answer only those who send this key; None for everybody."""
    max_running: int = 64
    """Most answers that are generated at once; further ones wait."""
    max_queue: int = 64
    """Most answers that wait beyond those; further ones are refused with 429."""
    cache_bytes: int | None = None
    """Memory for keys and values; None: a quarter of what is free, but no more than ``max_running`` whole contexts."""
    feature_bytes: int = 1 << 30
    """Most memory for encoded pictures and videos, which later questions about them find again."""
    request_timeout_s: float = 300.0
    """Most seconds for one request, from its body to its last token."""
    shutdown_timeout_s: float = 15.0
    """Most seconds that running requests are given to finish when the server is told to end."""
    cors_origins: tuple[str, ...] = ()
    """Pages of these origins may ask, such as ``https://example.org``; ``*`` for all, ``null`` for a user's files."""
    allowed_media_root: Path | None = None
    """Read local files below this folder where a request names them; None for none."""
    allow_private_hosts: bool = False
    """Fetch URLs of private, loopback and link-local addresses too."""
    no_remote_media: bool = False
    """Fetch no URL at all."""
    max_body_bytes: int = 64 << 20
    """Most bytes of a JSON body: a video of 45 MB as base64."""
    max_bodies_bytes: int = 1 << 30
    """Most bytes of the JSON bodies of all unanswered requests together."""
    max_header_bytes: int = 32 << 10
    """Most bytes of a request's line and headers."""
    max_media: int = 8
    """Most pictures and videos in one request."""
    media: MediaLimits = MEDIA
    """What one medium may cost."""
    decode_timeout_s: float = 60.0
    """Most seconds in which a worker process may decode one medium."""
    decode_workers: int = 2
    """Worker processes that decode media."""
    files_dir: Path | None = None
    """Keep uploaded files here; None for a temporary folder that goes with the server."""
    files_max_bytes: int = 4 << 30
    """Most bytes of uploaded files together, and of one."""
    files_max_age_s: float = 24 * 3600.0
    """Uploaded files are removed after so many seconds."""
    body_timeout_s: float = 60.0
    """Most seconds in which a request's headers and body must have come."""
    keepalive_s: float = 10.0
    """A stream that has nothing to say says so every so many seconds."""

    def __post_init__(self) -> None:
        check_whole("port", self.port, 0, 65535, hint="Use 8000, or 0 for any that is free.")
        check_whole("max_queue", self.max_queue, 0)
        check_whole("feature_bytes", self.feature_bytes, 0)
        if self.cache_bytes is not None:
            check_whole("cache_bytes", self.cache_bytes, 1, hint="Leave it out to have it chosen.")
        for name in (
            "max_running",
            "max_body_bytes",
            "max_bodies_bytes",
            "max_header_bytes",
            "max_media",
            "decode_workers",
        ):
            check_whole(name, getattr(self, name), 1)
        check_whole("files_max_bytes", self.files_max_bytes, 1)
        for name in ("request_timeout_s", "decode_timeout_s", "files_max_age_s", "body_timeout_s", "keepalive_s"):
            check_number(name, getattr(self, name), 0.0, above=True, hint="Give it in seconds.")
        check_number("shutdown_timeout_s", self.shutdown_timeout_s, 0.0, 15.0, hint="It ends within 20 s in all.")
        # A header is bytes between spaces; a key that could not be sent would lock everybody out.
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self._is_word()):
            raise ArgumentError(
                "The API key is empty, or holds spaces or characters outside ASCII: expected one word that a header "
                "can carry. Choose another one."
            )
        for origin in self.cors_origins:
            if not ORIGIN.fullmatch(origin):
                raise ArgumentError(
                    f"cors_origins holds {origin!r}, which no browser sends as the origin of a page: expected "
                    "https://example.org or http://localhost:3000, in lower case and without a path or a slash at its "
                    "end, or * for all. Correct it."
                )
        if self.allowed_media_root is not None and not self.allowed_media_root.is_dir():
            raise ArgumentError(
                f"allowed_media_root is {self.allowed_media_root}, which is no folder: expected one that is there. "
                "Correct its path or leave it out."
            )

    def _is_word(self) -> bool:
        return bool(self.api_key) and " " not in str(self.api_key)

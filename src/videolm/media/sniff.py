"""The first bytes of a medium -> a picture, perhaps a video, or a refusal that names what they really are."""

from __future__ import annotations

import codecs
from typing import Literal

from videolm.errors import MediaError

__all__ = ["HEAD_BYTES", "sniff"]

HEAD_BYTES = 512
"""As many as ``sniff`` looks at."""

PICTURE_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"P4",
    b"P5",
    b"P6",
)
PICTURE_BRANDS = (b"avif", b"avis")
RAW_VIDEO = b"YUV4MPEG2"
"""Its header is text, and its pixels may happen to be."""
TEXT_STARTS = {
    b"#extm3u": "an HLS playlist, which only names other files",
    b"ffconcat": "a concat script, which only names other files",
    b"[playlist]": "a playlist, which only names other files",
    b"<mpd": "a DASH manifest, which only names other files",
    b"<asx": "a playlist, which only names other files",
    b"<smil": "a playlist, which only names other files",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<head": "a web page",
    b"<?xml": "an XML document",
    b"<svg": "an SVG drawing",
    b"{": "JSON text",
    b"%pdf": "a PDF document",
    b"pk\x03\x04": "a ZIP archive",
    b"version https://git-lfs": "a Git LFS pointer, which stands for a file that was not downloaded",
}


def sniff(head: bytes, name: str) -> Literal["picture", "unknown"]:
    """Tell pictures from what may be a video.

    Args:
        head: the first ``HEAD_BYTES`` bytes, or all of a shorter medium.
        name: what to call the medium in a message.
    """
    if not head:
        raise MediaError(f"{name} is empty (0 bytes). Expected a video or a picture. Check that it was copied whole.")
    if head.startswith(PICTURE_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "picture"
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        return "picture"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, meaning in TEXT_STARTS.items():
        if text.startswith(start):
            advice = "Pass the video that it names" if "names" in meaning else "Pass the video or picture itself"
            raise MediaError(f"{name} is {meaning}. Expected the bytes of a video or a picture. {advice}.")
    if _is_text(head) and not head.startswith(RAW_VIDEO):
        raise MediaError(
            f"{name} is plain text. Expected the bytes of a video or a picture. Pass the video or picture itself."
        )
    return "unknown"


def _is_text(head: bytes) -> bool:
    try:
        # The last character may be cut off.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)

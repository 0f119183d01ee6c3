"""What the first bytes tell."""

import pytest

from videolm.errors import MediaError
from videolm.media.sniff import sniff


@pytest.mark.parametrize(
    "head",
    [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF1234WEBPVP8 ", b"BM", b"1234ftypavif", b"II*\0"],
)
def test_pictures(head: bytes) -> None:
    assert sniff(head, "x") == "picture"


@pytest.mark.parametrize("head", [
        b"\0\0\0\x20ftypisom", b"\x1a\x45\xdf\xa3", b"RIFF\x24\x08\0\0AVI LIST", b"G@\0\x10", b"\0\0\0\1g",
        b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n" + b"d" * 384,
    ],
)  # fmt: skip
def test_what_may_be_a_video(head: bytes) -> None:
    assert sniff(head, "x") == "unknown"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "x is empty (0 bytes). Expected a video or a picture."),
        (b"#EXTM3U\n#EXTINF:1,\nsecret.ts", "x is an HLS playlist, which only names other files."),
        (b"\xef\xbb\xbf#EXTM3U\n", "x is an HLS playlist, which only names other files."),
        (b"ffconcat version 1.0\nfile a.mp4", "x is a concat script, which only names other files."),
        (b"<?xml version='1.0'?><MPD>", "x is an XML document."),
        (b"\n  <!DOCTYPE html><html>", "x is a web page."),
        (b'{"error": "no such video"}', "x is JSON text."),
        (b"version https://git-lfs.github.com/spec/v1", "x is a Git LFS pointer,"),
        (b"not a video", "x is plain text."),
        ("ä".encode() * 255 + b"x\xc3", "x is plain text."),
    ],
)
def test_other_contents_are_named(head: bytes, message: str) -> None:
    with pytest.raises(MediaError) as caught:
        sniff(head, "x")

    assert str(caught.value).startswith(message)
    assert str(caught.value).count(". ") >= 1

"""The media of the soak: small clips and pictures, their forms on the network, and copies that no cache knows."""

from __future__ import annotations

import base64
import io
import random
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from clips import Clip, make_clip
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CLIP = Clip(duration_s=1, height=96, width=128, bit_rate=150_000)
NUM_CLIPS = 6
NUM_PICTURES = 4


@dataclass(frozen=True, kw_only=True)
class File:
    """A clip or a picture in memory."""

    kind: str
    """``video`` or ``image``."""
    content: bytes

    @property
    def media_type(self) -> str:
        return "video/mp4" if self.kind == "video" else "image/png"

    def part(self) -> dict[str, object]:
        """As part of a message that holds it."""
        url = f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"
        return {"type": f"{self.kind}_url", f"{self.kind}_url": {"url": url}}

    def copy(self, dice: random.Random) -> File:
        """Other bytes of the same frames."""
        if self.kind == "video":
            filling = dice.randbytes(16)
            return replace(self, content=self.content + struct.pack(">I4s", 8 + len(filling), b"free") + filling)
        note = PngInfo()
        note.add_text("note", str(dice.getrandbits(64)))
        with Image.open(io.BytesIO(self.content)) as picture:
            return replace(self, content=_png(picture, note))


def make_files(cache: Path) -> list[File]:
    """All of them; the clips first."""
    clips = [make_clip(replace(CLIP, seed=seed + 1, noise=10 * seed), cache) for seed in range(NUM_CLIPS)]
    pictures = [_picture(seed) for seed in range(NUM_PICTURES)]
    return [
        *(File(kind="video", content=path.read_bytes()) for path in clips),
        *(File(kind="image", content=_png(picture)) for picture in pictures),
    ]


def _picture(seed: int) -> Image.Image:
    """Coloured fields."""
    dice = random.Random(seed)
    small = Image.frombytes("RGB", (4, 3), dice.randbytes(36))
    return small.resize((160, 120), Image.Resampling.NEAREST)


def _png(picture: Image.Image, note: PngInfo | None = None) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", pnginfo=note)
    return stream.getvalue()

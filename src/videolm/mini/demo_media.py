"""The clip and the picture of ``make demo``: ``python -m videolm.mini.demo_media FOLDER`` draws them again."""

from __future__ import annotations

import sys
from pathlib import Path

from videolm.world.drawing import encode_clip, encode_picture
from videolm.world.scene import Background, Scene, Shape, Text

CLIP = Scene(
    shapes=(
        Shape(
            colour="red",
            kind="circle",
            rgb=(226, 38, 38),
            x=0.16,
            y=0.5,
            radius=0.2,
            motion="right",
            travel=(0.6, 0.0),
        ),
    ),
    background=Background(top=(24, 26, 30), bottom=(52, 54, 60)),
    height=240,
    width=426,
    num_frames=45,
    fps=15,
    is_clip=True,
)
PICTURE = Scene(
    shapes=(
        Shape(colour="yellow", kind="triangle", rgb=(244, 214, 40), x=0.25, y=0.32, radius=0.2),
        Shape(colour="green", kind="ring", rgb=(40, 170, 70), x=0.72, y=0.62, radius=0.19),
    ),
    background=Background(top=(46, 44, 60), bottom=(70, 66, 84)),
    text=Text(words="STOP", x=0.3, y=0.82, height=0.13, rgb=(246, 246, 246)),
    height=240,
    width=320,
)


def write_media(folder: str | Path) -> None:
    """Write ``clip.mp4`` and ``picture.png``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clip.mp4").write_bytes(encode_clip(CLIP, crf=20))
    (folder / "picture.png").write_bytes(encode_picture(PICTURE))


if __name__ == "__main__":
    write_media(sys.argv[1])

"""The frozen test set: questions about scenes that training never shows, the same on every machine.

Each item's scene comes from a seed of its own in the split ``test``: its first shape is a combination of colour, shape
and motion that no training scene holds. ``fingerprint`` tells whether the generator still makes this version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Final

from videolm.world.drawing import encode_clip, encode_picture
from videolm.world.questions import SCORED_TASKS, Question, QuestionMaker, Task
from videolm.world.sampler import SceneStyle, sample_scene
from videolm.world.scene import Scene
from videolm.world.vocabulary import MOTIONS

VERSION: Final = "1"
NUM_ITEMS_PER_TASK: Final = 100
STYLES: Final[dict[Task, tuple[SceneStyle, ...]]] = {
    "colour": ("motion", "crowd", "still"),
    "shape": ("motion", "crowd", "still"),
    "motion": ("motion",),
    "count": ("crowd", "still"),
    "presence": ("motion", "crowd", "still"),
    "relation": ("crowd", "still"),
    "order": ("events",),
    "when": ("events",),
    "text": ("text",),
    "unknown": ("motion", "still"),
    "description": ("motion", "events"),
}
CODECS: Final = (("libx264", "mp4"), ("libx264", "mp4"), ("mpeg4", "mp4"), ("libx264", "matroska"))


@dataclass(frozen=True, kw_only=True)
class WorldItem:
    """One question about one clip or picture."""

    id: str
    scene: Scene
    question: Question
    codec: str
    container: str
    crf: int

    def media(self) -> bytes:
        """The clip or picture as a file."""
        if self.scene.is_clip:
            return encode_clip(self.scene, codec=self.codec, container=self.container, crf=self.crf)
        return encode_picture(self.scene)


def load_items(limit_per_task: int | None = None) -> Iterator[WorldItem]:
    """The items of this version, task after task."""
    number = NUM_ITEMS_PER_TASK if limit_per_task is None else min(limit_per_task, NUM_ITEMS_PER_TASK)
    for task in SCORED_TASKS:
        for index in range(number):
            yield _item(task, index)


def _item(task: Task, index: int) -> WorldItem:
    styles = STYLES[task]
    attempt = 0
    while True:
        random = Random(f"moving-shapes test {VERSION} {task} {index} {attempt}")
        # Each motion as often as any other.
        action = MOTIONS[index % len(MOTIONS)] if task == "motion" else None
        style = styles[index % len(styles)]
        scene = sample_scene(random, style, "test", shorter_side=(120, 240), first_action=action)
        question = QuestionMaker(scene, random, "test").make(task)
        if question is not None:
            codec, container = random.choice(CODECS)
            return WorldItem(
                id=f"{task}-{index:03d}",
                scene=scene,
                question=question,
                codec=codec,
                container=container,
                crf=random.randint(18, 28),
            )
        attempt += 1


def fingerprint(limit_per_task: int = 10) -> str:
    """A hash of the first items of each task: scenes and questions, not pixels."""
    digest = hashlib.sha256()
    for item in load_items(limit_per_task):
        digest.update(repr((item.id, asdict(item.scene), asdict(item.question), item.codec, item.crf)).encode())
    return digest.hexdigest()[:16]

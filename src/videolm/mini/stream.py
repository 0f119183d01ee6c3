"""Training samples of the moving-shapes world: an index in, a clip or picture with a conversation about it out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

import numpy as np
from PIL import Image

from videolm.contracts import Frames, Message
from videolm.training.samples import PlacedWord, TrainingSample
from videolm.world.cell_words import cell_words
from videolm.world.charts import MAP_QUESTIONS, Listing, Printed, sample_chart, sample_lines, sample_print
from videolm.world.drawing import draw_frame, encode_clip, encode_picture
from videolm.world.phrasings import Phrasings, draw_phrasing
from videolm.world.placed_words import placed_words
from videolm.world.questions import Question, QuestionMaker, Task, changes, heading, track, with_pronoun
from videolm.world.sampler import MAPPED, SceneStyle, sample_scene
from videolm.world.scene import Scene, Text

Shown = Literal["clip", "picture", "still", "chart"]
"""A still is a picture shown as a video of one frame: the cheapest way to learn to see. A chart is a still of many
shapes and a map of them: the most words about shapes that a frame can teach."""

TASK_WEIGHTS: Mapping[Shown, Mapping[Task, float]] = {
    "clip": {
        "colour": 1.2, "shape": 1.5, "motion": 3, "path": 1, "count": 1, "presence": 1.5, "relation": 1, "order": 2,
        "when": 2, "unknown": 0.3,
    },
    "picture": {
        "colour": 1, "shape": 1.2, "place": 0.7, "count": 1, "presence": 1.2, "relation": 1.2, "text": 3,
        "unknown": 0.3,
    },
    "still": {
        "colour": 1.2, "shape": 1.5, "place": 1.5, "count": 1, "presence": 1.2, "relation": 1, "unknown": 0.2,
    },
}  # fmt: skip
PREFIXES = ("",) * 6 + ("Tell me: ", "Please answer: ", "Question: ", "Look closely. ")
ENCODINGS = (("libx264", "mp4"), ("libx264", "matroska"), ("mpeg4", "mp4"), ("mjpeg", "avi"), ("libx264", "mp4"))


class MovingShapes:
    """An endless source of samples; each index is a scene of its own.

    Args:
        shown: as what the scenes are shown.
        styles: share of each style of scene; charts have none.
        seed: of the whole source.
        easy: share of scenes of which only one or two shapes are kept.
        turns: least and most questions about one scene, besides the description.
        description: share of conversations that hold a description of everything; of a scene of a mapped style, a map.
        encoded: share of clips that are encoded into a video file and decoded again; of stills and pictures, as JPEG.
        num_frames: frames shown of a clip.
        fewer_frames: share of clips of which fewer frames, 3 to ``num_frames`` - 1, are shown.
        shorter_side: bounds of the shorter side of a scene in pixels.
        colours: share of charts whose map is one of colours, not of shapes.
        letters: share of charts that show letters or words.
        lines: share of charts that show one to three words, large ones, too.
        numbers: share of numbers among the words of ``lines``.
        tiled: share of charts with ``lines`` that are pictures, not stills.
        changing: share of charts that are clips, with a map of what each shape does.
        phrasings: in how many ways questions are asked.
        task_weights: how often each task is asked, where that differs from ``TASK_WEIGHTS``.
        tracks: share of clips at the end of whose conversation the way of a shape is told, frame by frame.
        lists_changes: whether half of those clips in which shapes appear or disappear get a list of that instead.
        headings: share of those clips in which a shape rotates where it is told how that is turned instead.
        leading: how often each of these tasks is asked first. No answer of such a conversation can be read off another:
            it asks none of them again, and nothing twice about one shape.
        describes_last: whether a description comes after all questions, none of which can then be answered from it.
        cell_words: whether each visual token of a clip that is not encoded learns what happens at its place.
        placed_words: whether the visual tokens of a picture learn what stands at their places: letters and kinds of
            shapes.
        pronouns: share of the questions about the only shape, or the one that was asked about just before, that call
            it "it".
    """

    def __init__(
        self,
        *,
        shown: Shown,
        seed: int,
        styles: Mapping[SceneStyle, float] | None = None,
        easy: float = 0.0,
        turns: tuple[int, int] = (2, 4),
        description: float = 0.9,
        encoded: float = 0.2,
        num_frames: int = 8,
        fewer_frames: float = 0.1,
        shorter_side: tuple[int, int] = (96, 200),
        colours: float = 0.1,
        letters: float = 0.0,
        lines: float = 0.0,
        phrasings: Phrasings = "base",
        describes_last: bool = False,
        task_weights: Mapping[Task, float] | None = None,
        tracks: float = 0.0,
        lists_changes: bool = False,
        headings: float = 0.0,
        numbers: float = 0.4,
        tiled: float = 0.0,
        leading: Mapping[Task, float] | None = None,
        changing: float = 0.0,
        pronouns: float = 0.0,
        cell_words: bool = False,
        placed_words: bool = False,
    ) -> None:
        self.shown = shown
        self.styles = dict(styles or {})
        self.seed = seed
        self.easy = easy
        self.turns = turns
        self.description = description
        self.encoded = encoded
        self.num_frames = num_frames
        self.fewer_frames = fewer_frames
        self.shorter_side = shorter_side
        self.colours = colours
        self.letters = letters
        self.lines = lines
        self.phrasings: Phrasings = phrasings
        self.describes_last = describes_last
        self.tracks = tracks
        self.lists_changes = lists_changes
        self.headings = headings
        self.numbers = numbers
        self.tiled = tiled
        self.leading = dict(leading or {})
        self.changing = changing
        self.pronouns = pronouns
        self.cell_words = cell_words
        self.placed_words = placed_words
        self.task_weights = {**TASK_WEIGHTS.get(shown, {}), **(task_weights or {})}

    def sample(self, index: int) -> TrainingSample:
        """The sample of this index."""
        random = Random(f"moving-shapes train {self.seed} {self.shown} {index}")
        if self.shown == "chart":
            if self.changing and random.random() < self.changing:
                return self._changing_chart(index, random)
            return self._chart(index, random)
        style = random.choices(list(self.styles), list(self.styles.values()))[0]
        scene = sample_scene(random, style, "train", shorter_side=self.shorter_side)
        if style not in MAPPED and random.random() < self.easy:
            scene = replace(scene, shapes=scene.shapes[: random.randint(1, 2)])
        scene = replace(scene, is_clip=self.shown == "clip")
        questions = self._questions(scene, random, "map" if style in MAPPED else "description")
        medium = self._medium(scene, random)
        # Of a file, the model's own processor chooses the frames.
        if self.tracks and isinstance(medium, Frames) and random.random() < self.tracks:
            questions.append(self._by_frame(scene, medium, random))
        kind = "image" if self.shown == "picture" else "video"
        return TrainingSample(
            id=f"{self.shown}-{self.seed}-{index}",
            media=(medium,),
            messages=_conversation(questions, kind, random),
            visual_words=self._visual_words(scene, medium, random),
            placed_words=self._placed_words(scene, [scene.text] if scene.text else [], kind, random),
        )

    def _placed_words(self, scene: Scene, texts: Sequence[Text], kind: str, random: Random) -> tuple[PlacedWord, ...]:
        if not self.placed_words or kind != "image":
            return ()
        return tuple(PlacedWord(word=word, box=box) for word, box in placed_words(scene, texts, random))

    def _visual_words(self, scene: Scene, medium: Any, random: Random) -> tuple[str, ...]:
        if not self.cell_words or not isinstance(medium, Frames):
            return ()
        return cell_words(scene, _times(scene, medium), random)

    def _by_frame(self, scene: Scene, frames: Frames, random: Random) -> Question:
        """The question whose answer has a word for each frame: the most that a clip can teach."""
        times = _times(scene, frames)
        if self.lists_changes and scene.has_events and random.random() < 0.5:
            return changes(scene, times)
        rotating = [shape for shape in scene.shapes if shape.motion == "rotating"]
        if self.headings and rotating and random.random() < self.headings:
            return heading(random.choice(rotating), times)
        return track(random.choice(scene.shapes), times)

    def _changing_chart(self, index: int, random: Random) -> TrainingSample:
        chart = sample_chart(random, shorter_side=self.shorter_side, changes=True)
        frames = self._clip(chart.scene, self.num_frames)
        answer = chart.read("actions")
        question = Question(task="map", text=MAP_QUESTIONS["actions"], answer=answer, expected=answer)
        return TrainingSample(
            id=f"changing-chart-{self.seed}-{index}",
            media=(frames,),
            messages=_conversation([question], "video", random),
            visual_words=self._visual_words(chart.scene, frames, random),
        )

    def _chart(self, index: int, random: Random) -> TrainingSample:
        listing: Listing | Printed
        asked, kind = "", "video"
        texts: Sequence[Text] = ()
        if self.lines and random.random() < self.lines:
            listing = "lines"
            printed = sample_lines(random, shorter_side=self.shorter_side, numbers=self.numbers)
            scene, pixels, answer = printed.scene, printed.draw(), f"{printed.read()}."
            texts = tuple(printed.texts.values())
            if self.tiled and random.random() < self.tiled:
                kind = "image"
            if printed.rows == 1 and random.random() < 0.5:
                asked = draw_phrasing("text", random).format(view="video" if kind == "video" else "picture")
        elif self.letters and random.random() < self.letters:
            listing = random.choice(("letters", "words"))
            printed = sample_print(random, whole_words=listing == "words", shorter_side=self.shorter_side)
            scene, pixels, answer = printed.scene, printed.draw(), printed.read()
        else:
            chart = sample_chart(random, shorter_side=self.shorter_side)
            listing = "colours" if random.random() < self.colours else "shapes"
            scene, pixels, answer = chart.scene, draw_frame(chart.scene, 0.0), chart.read(listing)
        question = {"type": "text", "text": asked or MAP_QUESTIONS[listing]}
        medium = Image.fromarray(pixels) if kind == "image" else self._still(scene, pixels, random)
        return TrainingSample(
            id=f"chart-{self.seed}-{index}",
            media=(medium,),
            messages=(
                {"role": "user", "content": [{"type": kind}, question]},
                {"role": "assistant", "content": answer},
            ),
            placed_words=self._placed_words(scene, texts, kind, random),
        )

    def _questions(self, scene: Scene, random: Random, summary: Task) -> list[Question]:
        maker = QuestionMaker(scene, random, "train", phrasings=self.phrasings)
        weights = self.task_weights
        drawn = random.choices(list(weights), list(weights.values()), k=random.randint(*self.turns))
        if self.leading:
            first = random.choices(list(self.leading), list(self.leading.values()))[0]
            drawn = [first, *(task for task in drawn if task not in self.leading)]
        made = [question for task in drawn if (question := maker.make(task)) is not None]
        if self.leading:
            # Of two questions about one thing the first stays, in the place of the last: as the recipes were trained.
            made = list({(question.task, question.subject): question for question in reversed(made)}.values())[::-1]
        asked = list({question.text: question for question in made}.values())
        if not asked or random.random() < self.description:
            described = maker.make(summary)
            assert described is not None
            asked.insert(len(asked) if self.describes_last else random.randint(0, len(asked)), described)
        return _with_pronouns(asked, scene, self.pronouns, random) if self.pronouns else asked

    def _still(self, scene: Scene, pixels: np.ndarray, random: Random) -> Frames:
        is_encoded = random.random() < self.encoded
        return _frames(scene, [_recompressed(pixels, random) if is_encoded else pixels], [0])

    def _medium(self, scene: Scene, random: Random) -> Any:
        if self.shown == "still":
            return self._still(scene, draw_frame(scene, 0.0), random)
        is_encoded = random.random() < self.encoded
        if self.shown == "picture":
            quality = random.randint(45, 95)
            return encode_picture(scene, image_format="JPEG" if is_encoded else "PNG", quality=quality)
        if is_encoded:
            codec, container = random.choice(ENCODINGS)
            return encode_clip(scene, codec=codec, container=container, crf=random.randint(18, 33))
        shown = self.num_frames
        if random.random() < self.fewer_frames:
            shown = random.randint(3, self.num_frames - 1)
        return self._clip(scene, shown)

    def _clip(self, scene: Scene, num_frames: int) -> Frames:
        last = scene.num_frames - 1
        indices = [int(last * step / (num_frames - 1)) for step in range(num_frames)]
        return _frames(scene, [draw_frame(scene, index / last) for index in indices], indices)


def _with_pronouns(questions: list[Question], scene: Scene, share: float, random: Random) -> list[Question]:
    """The same questions, of which some call a shape "it" where that is plain."""
    befores = [None, *(question.subject for question in questions)]
    return [
        replace(question, text=with_pronoun(question))
        if question.subject and random.random() < share and (len(scene.shapes) == 1 or question.subject == before)
        else question
        for question, before in zip(questions, befores, strict=False)
    ]


def _times(scene: Scene, frames: Frames) -> list[float]:
    """The scene's own time of each frame."""
    return [index / (scene.num_frames - 1) for index in frames.frame_indices]


def _frames(scene: Scene, pixels: list[np.ndarray], indices: list[int]) -> Frames:
    return Frames(
        kind="video",
        pixels=tuple(pixels),
        source="moving shapes",
        size=(scene.height, scene.width),
        frame_indices=tuple(indices),
        frame_times_s=tuple(index / scene.fps for index in indices),
        num_source_frames=scene.num_frames,
        fps=scene.fps,
    )


def _recompressed(pixels: np.ndarray, random: Random) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=random.randint(40, 95))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _conversation(questions: list[Question], kind: str, random: Random) -> tuple[Message, ...]:
    messages: list[Message] = []
    for question in questions:
        content: list[dict[str, str]] = [{"type": "text", "text": _reworded(question.text, random)}]
        if not messages:
            content.insert(0, {"type": kind})
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": question.answer})
    return tuple(messages)


def _reworded(text: str, random: Random) -> str:
    """The question as people type it: sometimes in lower case, without its last mark, or after a few words."""
    prefix = random.choice(PREFIXES)
    if random.random() < 0.12:
        text = text[0].lower() + text[1:]
    if random.random() < 0.1:
        text = text[:-1]
    return prefix + text

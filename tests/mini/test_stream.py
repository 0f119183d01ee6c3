"""The training source: the same sample for an index everywhere, conversations that match what is shown."""

import re
from typing import Any

import numpy as np
import pytest

from videolm.contracts import Frames
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.mini.stream import MovingShapes, Shown
from videolm.world.charts import EMPTY, MAP_QUESTIONS
from videolm.world.questions import CHANGES_QUESTION, MAP_QUESTION
from videolm.world.vocabulary import COLOURS, KINDS, MOTIONS, WORDS


@pytest.mark.parametrize("shown", ["clip", "picture", "still"])
def test_a_sample_depends_on_nothing_but_its_index(shown: Shown) -> None:
    options = {"shown": shown, "styles": {"still": 1, "motion": 1}, "seed": 3, "encoded": 0.5}
    one, two = MovingShapes(**options), MovingShapes(**options)  # type: ignore[arg-type]
    two.sample(0)
    for index in (7, 2):
        first, second = one.sample(index), two.sample(index)
        assert first.messages == second.messages
        pixels = [load_media(s.media[0], sampling=FrameSampling(num_frames=8)).pixels for s in (first, second)]
        assert all(np.array_equal(a, b) for a, b in zip(*pixels, strict=True))


def test_conversations_alternate_and_the_first_question_brings_the_medium() -> None:
    source = MovingShapes(shown="clip", styles={"motion": 1}, seed=1, encoded=0.0, fewer_frames=0.0)
    for index in range(20):
        sample = source.sample(index)
        roles = [message["role"] for message in sample.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        kinds = [[part["type"] for part in message["content"]] for message in sample.messages[::2]]
        assert kinds == [["video", "text"], *[["text"]] * (len(kinds) - 1)]
        frames = sample.media[0]
        assert isinstance(frames, Frames)
        assert len(frames.pixels) == 8
        assert (frames.frame_indices[0], frames.frame_indices[-1]) == (0, frames.num_source_frames - 1)


def test_easy_scenes_hold_at_most_two_shapes() -> None:
    source = MovingShapes(shown="still", styles={"crowd": 1}, seed=1, easy=1.0, turns=(0, 0))
    for index in range(40):
        (description,) = (message["content"] for message in source.sample(index).messages[1::2])
        assert 1 <= description.count(" at the") + description.count(" in the") <= 2


def test_a_description_can_come_after_all_questions() -> None:
    source = MovingShapes(
        shown="clip", styles={"motion": 1}, seed=3, encoded=0.0, description=1.0, describes_last=True, turns=(3, 3)
    )
    for index in range(20):
        *questions, description = (str(message["content"]) for message in source.sample(index).messages[1::2])
        assert description.startswith(("A ", "An "))
        assert not any(answer.startswith(("A ", "An ")) for answer in questions)


def test_a_chart_is_one_frame_with_a_map_of_it() -> None:
    source = MovingShapes(shown="chart", seed=2, encoded=0.0, colours=0.5)
    seen = set()
    for index in range(30):
        sample = source.sample(index)
        frames = sample.media[0]
        assert isinstance(frames, Frames)
        assert len(frames.pixels) == 1
        question, answer = sample.messages
        assert [part["type"] for part in question["content"]] == ["video", "text"]
        is_of_colours = question["content"][1]["text"] == "Which colours are where?"
        seen.add(is_of_colours)
        words = str(answer["content"]).split()
        assert len(words) == 16
        assert set(words) <= {EMPTY, *(COLOURS if is_of_colours else KINDS)}
    assert seen == {True, False}


def test_a_map_of_motions_comes_last_with_a_word_for_each_quarter() -> None:
    source = MovingShapes(
        shown="clip", styles={"map": 1}, seed=4, encoded=0.0, description=1.0, describes_last=True, turns=(0, 2)
    )
    words: set[str] = set()
    for index in range(60):
        question, answer = source.sample(index).messages[-2:]
        assert question["content"][-1]["text"].lower().rstrip("?").endswith(MAP_QUESTION.lower().rstrip("?"))
        listed = str(answer["content"]).split()
        assert len(listed) == 4
        assert sum(word != "No" for word in listed) >= 2
        words |= set(listed)
    events = {f"{event}-{period}" for event in ("appears", "disappears") for period in ("early", "middle", "late")}
    assert words == {"No", *MOTIONS, *events}


def test_tasks_can_be_asked_more_or_never() -> None:
    weights = {"colour": 0, "shape": 0, "place": 0, "count": 0, "presence": 0, "relation": 0, "unknown": 1}
    source = MovingShapes(shown="still", styles={"still": 1}, seed=5, description=0.0, task_weights=weights)  # type: ignore[arg-type]
    answers = {str(message["content"]) for index in range(20) for message in source.sample(index).messages[1::2]}
    assert answers == {"I don't know."}


def test_the_way_of_a_shape_is_told_by_frames() -> None:
    plain = MovingShapes(shown="clip", styles={"events": 1, "motion": 1}, seed=6, encoded=0.3, tracks=0.0)
    source = MovingShapes(shown="clip", styles={"events": 1, "motion": 1}, seed=6, encoded=0.3, tracks=1.0)
    places = {f"{row}{gap}{column}" for row in ("top", "", "bottom") for column in ("left", "", "right")
              for gap in ("-" if row and column else "",)} - {""}  # fmt: skip
    words: set[str] = set()
    for index in range(60):
        sample, without = source.sample(index), plain.sample(index)
        frames = sample.media[0]
        if not isinstance(frames, Frames):
            assert sample.messages == without.messages
            continue
        assert len(sample.messages) == len(without.messages) + 2
        listed = str(sample.messages[-1]["content"]).split()
        assert len(listed) == len(frames.pixels)
        words |= set(listed)
    assert words == places | {"center", "No"}


def test_charts_can_be_lines_of_words() -> None:
    source = MovingShapes(shown="chart", seed=4, lines=1.0, encoded=0.0)
    asked = set()
    for index in range(40):
        question, answer = source.sample(index).messages
        asked.add(question["content"][1]["text"])
        words = str(answer["content"]).removesuffix(".").split()
        assert 1 <= len(words) <= 3
        assert all(word in WORDS or word.isdecimal() for word in words)
    assert MAP_QUESTIONS["lines"] in asked
    assert len(asked) > 5


def test_changes_can_be_told_instead_of_the_way_of_a_shape() -> None:
    source = MovingShapes(shown="clip", styles={"changes": 1}, seed=5, encoded=0.0, tracks=1.0, lists_changes=True)
    counts = {CHANGES_QUESTION: 0, "Where is": 0}
    for index in range(60):
        text = str(source.sample(index).messages[-2]["content"][-1]["text"]).rstrip("?")
        for asked in counts:
            counts[asked] += asked.rstrip("?").lower() in text.lower()
    assert sum(counts.values()) == 60
    assert min(counts.values()) > 15


def test_what_leads_is_asked_first_and_never_again() -> None:
    source = MovingShapes(
        shown="clip", styles={"events": 1}, seed=6, encoded=0.0, description=0.0, turns=(4, 4), leading={"order": 1},
        task_weights={"order": 5, "when": 5},
    )  # fmt: skip
    led = 0
    for index in range(40):
        answers = [str(message["content"]) for message in source.sample(index).messages[1::2]]
        tells_an_event = [answer.endswith(("appears.", "disappears.")) for answer in answers]
        assert not any(tells_an_event[1:])
        assert answers.count("Early.") + answers.count("In the middle.") + answers.count("Late.") <= 3
        led += tells_an_event[0]
    assert led > 25


def test_how_a_shape_is_turned_can_be_told_instead_of_its_way() -> None:
    source = MovingShapes(
        shown="clip", styles={"lively": 1}, seed=7, encoded=0.0, tracks=1.0, headings=1.0, turns=(0, 0)
    )
    counts = {"rotates": 0, "turned": 0}
    for index in range(60):
        *_, description, question, answer = (message["content"] for message in source.sample(index).messages)
        counts["rotates"] += "rotates" in str(description)
        if "turned" in str(question):
            counts["turned"] += 1
            assert len(str(answer).split()) in range(3, 9)
            assert set(str(answer).split()) <= {"zero", "one", "two", "three"}
    assert counts["turned"] == counts["rotates"] > 10


def test_lines_can_be_pictures_and_hold_more_numbers() -> None:
    source = MovingShapes(shown="chart", seed=8, encoded=0.0, lines=1.0, numbers=1.0, tiled=0.5)
    kinds = []
    for index in range(40):
        sample = source.sample(index)
        content = sample.messages[0]["content"]
        assert isinstance(content, list)
        assert isinstance(sample.media[0], Frames) == (content[0]["type"] == "video")
        assert str(sample.messages[1]["content"]).removesuffix(".").replace(" ", "").isdecimal()
        kinds.append(content[0]["type"])
    assert 10 < kinds.count("image") < 30


def test_charts_can_be_clips_of_what_changes() -> None:
    source = MovingShapes(shown="chart", seed=9, changing=1.0, num_frames=4)
    for index in range(10):
        sample = source.sample(index)
        question, answer = sample.messages
        assert isinstance(sample.media[0], Frames)
        assert len(sample.media[0].pixels) == 4
        asked = str(question["content"][-1]["text"])
        assert asked.lower().rstrip("?").endswith(MAP_QUESTIONS["actions"].lower().rstrip("?"))
        assert len(str(answer["content"]).split()) == 16


def test_it_stands_for_the_only_shape_and_for_the_one_just_asked_about() -> None:
    options: dict[str, Any] = {
        "shown": "clip", "styles": {"motion": 1}, "seed": 10, "encoded": 0.0, "turns": (4, 4), "description": 0.0,
        "task_weights": {"count": 0, "presence": 0, "relation": 0, "unknown": 0},
    }  # fmt: skip
    named, called_it = MovingShapes(**options), MovingShapes(**options, pronouns=1.0)
    found = 0
    for index in range(40):
        answers = [[m["content"] for m in source.sample(index).messages[1::2]] for source in (named, called_it)]
        assert answers[0] == answers[1]
        texts = [str(m["content"][-1]["text"]) for m in called_it.sample(index).messages[::2]]
        found += sum(bool(re.search(r"\bits?\b", text, re.IGNORECASE)) for text in texts)
        assert not re.search(r"\bthe shape (?:move|go|start)", texts[0])
    assert found > 40

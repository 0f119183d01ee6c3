"""The frozen test set is the one its version names, and holds what training does not."""

from collections import Counter

from videolm.world.questions import SCORED_TASKS
from videolm.world.test_set import NUM_ITEMS_PER_TASK, VERSION, fingerprint, load_items
from videolm.world.vocabulary import is_held_out


def test_version_1_is_frozen() -> None:
    assert (VERSION, fingerprint()) == ("1", "c4e041e60af51e2e")


def test_every_task_has_its_items_and_ids_differ() -> None:
    items = list(load_items())
    assert Counter(item.question.task for item in items) == dict.fromkeys(SCORED_TASKS, NUM_ITEMS_PER_TASK)
    assert len({item.id for item in items}) == len(items)


def test_subjects_are_combinations_that_training_never_shows() -> None:
    subjects = [i.question.subject for i in load_items() if i.question.task in ("colour", "shape", "motion")]
    held_out = [s for s in subjects if s is not None and is_held_out(s.colour, s.kind, s.action)]
    assert len(held_out) > 0.8 * len(subjects)


def test_both_kinds_of_phrasing_are_asked() -> None:
    shares = Counter(item.question.has_held_out_phrasing for item in load_items())
    assert 0.35 < shares[True] / sum(shares.values()) < 0.65


def test_media_are_files() -> None:
    clip = next(item for item in load_items(1) if item.scene.is_clip)
    picture = next(item for item in load_items(1) if not item.scene.is_clip)
    assert len(clip.media()) > 500
    assert picture.media()[:4] == b"\x89PNG"

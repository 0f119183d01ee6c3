"""The sheet shows the model's pixels, and the description counts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from videolm.contracts import Frames
from videolm.processing.contact_sheet import contact_sheet, describe
from videolm.processing.processor import Processor
from videolm.visual_tokens import TokenBudget, VideoTokens

COLOURS = [(250, 10, 20), (10, 240, 30), (20, 30, 230), (200, 190, 10)]


def flat(colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def clip() -> Frames:
    return Frames(
        kind="video",
        pixels=tuple(flat(colour, 36, 64) for colour in COLOURS[:3]),
        source="clip.mp4",
        size=(36, 64),
        frame_indices=(0, 4, 9),
        frame_times_s=(0.0, 0.4, 0.9),
        num_source_frames=10,
        fps=10.0,
        duration_s=1.0,
        warnings=("one",),
    )


def quarters() -> Frames:
    top, bottom = (np.concatenate([flat(c, 28, 28) for c in two], axis=1) for two in (COLOURS[:2], COLOURS[2:]))
    return Frames(kind="image", pixels=(np.concatenate([top, bottom]),), source="q.png", size=(56, 56))


def area_of(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.abs(np.asarray(sheet).astype(int) - colour).max(axis=-1) <= 1).sum())


def test_every_frame_is_on_the_sheet(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor()
    sheet = contact_sheet([(clip(), processor.prepare_medium(clip()))], processor)
    assert sheet.mode == "RGB"
    assert [area_of(sheet, colour) for colour in COLOURS] == [220 * 220] * 3 + [0]


def test_what_is_left_out_is_pale(make_processor: Callable[..., Processor]) -> None:
    made = make_processor()
    processor = replace(made, tokens=replace(made.tokens, video=VideoTokens(grid=2, pool=None)))
    visual = processor.prepare_medium(clip(), TokenBudget(fraction=0.5))
    kept = [np.ones((2, 2), bool), np.zeros((2, 2), bool), np.eye(2, dtype=bool)]
    sheet = contact_sheet([(clip(), visual)], processor, [kept])
    share = [area_of(sheet, colour) / 220**2 for colour in COLOURS[:3]]
    assert share == pytest.approx([1, 0, 0.5], abs=0.01)


def test_the_grid_of_a_picture_is_on_the_sheet_tile_by_tile(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor()
    sheet = np.asarray(contact_sheet([(quarters(), processor.prepare_medium(quarters()))], processor)).astype(int)
    centres = []
    for colour in COLOURS:
        rows, columns = np.nonzero(np.abs(sheet - colour).max(axis=-1) <= 1)
        grid = columns > 250  # right of the base tile
        assert grid.sum() == 220 * 220
        centres.append((rows[grid].mean(), columns[grid].mean()))
    assert centres[0][0] == centres[1][0] < centres[2][0] == centres[3][0]
    assert centres[0][1] == centres[2][1] < centres[1][1] == centres[3][1]


def test_many_frames_and_long_names_make_a_taller_sheet(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor()
    many = Frames(
        kind="video", pixels=tuple(flat(COLOURS[0], 28, 28) for _ in range(64)), source="n" * 500, size=(28, 28)
    )
    sheet = contact_sheet([(many, processor.prepare_medium(many))], processor)
    assert sheet.width == 1200
    assert area_of(sheet, COLOURS[0]) == 64 * 220 * 220


def test_the_description_counts_what_the_sheet_shows(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor()
    items = [(frames, processor.prepare_medium(frames)) for frames in (clip(), quarters())]
    description = describe(items, processor)
    assert json.loads(json.dumps(description)) == {
        "visual_tokens": 3 + 4 + 4 * 5,
        "media": [
            {
                "source": "clip.mp4",
                "kind": "video",
                "width": 64,
                "height": 36,
                "visual_tokens": 3,
                "input_width": 28,
                "input_height": 28,
                "warnings": ["one"],
                "num_frames": 3,
                "frame_indices": [0, 4, 9],
                "frame_times_s": [0.0, 0.4, 0.9],
                "num_source_frames": 10,
                "duration_s": 1.0,
                "tokens_per_frame": 1,
                "full_visual_tokens": 3,
                "visual_token_budget": 1.0,
                "token_reduction": None,
                "chosen": None,
                "method": "array",
                "num_bad_frames": 0,
            },
            {
                "source": "q.png",
                "kind": "image",
                "width": 56,
                "height": 56,
                "visual_tokens": 24,
                "input_width": 28,
                "input_height": 28,
                "warnings": [],
                "num_tiles": 5,
                "tile_rows": 2,
                "tile_columns": 2,
            },
        ],
    }

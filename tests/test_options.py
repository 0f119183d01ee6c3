"""Options by name: what they set, and one line for each that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from videolm.errors import ArgumentError
from videolm.generation.params import SamplingParams
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling
from videolm.options import MediaOptions, Options

EIGHT = FrameSampling(rule="arange", num_frames=8)
ONE_A_SECOND = FrameSampling(rule="fps", fps=1.0, num_frames=None, max_frames=64)


def test_options_go_where_they_belong() -> None:
    given = {"frames": 4, "temperature": 0.5, "stop": "END", "system": "Be brief.", "seed": None}
    assert Options.parse(given, stop_token_ids=(2,)) == Options(
        media=MediaOptions(frames=4),
        params=SamplingParams(temperature=0.5, stop=("END",), stop_token_ids=(2,)),
        system="Be brief.",
    )


def test_stop_may_be_a_list() -> None:
    assert Options.parse({"stop": ["a", "b"]}).params.stop == ("a", "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"temprature": 1},
            "There is no option 'temprature': did you mean temperature? Correct its name or leave it out.",
        ),
        ({"num_frames": 8}, "There is no option 'num_frames': did you mean frames? Correct its name or leave it out."),
        ({"frames": 0}, "frames is 0: expected a whole number of at least 1. Ask for at least one frame."),
        ({"frames": 2.5}, "frames is 2.5: expected a whole number of at least 1. Ask for at least one frame."),
        ({"fps": 0}, "fps is 0: expected a number above 0. Use for example 1."),
        ({"fps": float("inf")}, "fps is inf: expected a number above 0. Use for example 1."),
        (
            {"visual_token_budget": 0},
            "visual_token_budget is 0: expected a fraction above 0 and at most 1. Use for example 0.5.",
        ),
        (
            {"visual_token_budget": 0.5, "token_reduction": "fastv"},
            "token_reduction is 'fastv': expected one of evs, fastvid. Leave it out for evs.",
        ),
        (
            {"token_reduction": "evs"},
            "token_reduction is 'evs', but there is no visual_token_budget: expected both, or neither. Give the share "
            "of tokens to keep, such as visual_token_budget=0.5.",
        ),
        ({"system": " "}, "system is ' ': expected some text. Leave it out for the model's own."),
        ({"stop": 3}, "stop is 3: expected a tuple of strings. Write stop=('END',)."),
        ({"allow_private_hosts": "no"}, "allow_private_hosts is 'no': expected True or False. Leave it out for False."),
        (
            {"limits": 5},
            "limits is 5: expected a MediaLimits. Write limits=videolm.MediaLimits(max_bytes=...).",
        ),
        ({"max_new_tokens": -1}, "max_new_tokens is -1: expected a whole number of at least 1. Use 1 or more."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Options.parse(options)
    assert str(caught.value) == message


def test_an_option_far_from_all_gets_the_list() -> None:
    with pytest.raises(ArgumentError, match="There is no option 'zzz': expected one of frames, fps, "):
        Options.parse({"zzz": 1})


def test_an_option_that_belongs_elsewhere_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"The option frames cannot change here: expected one of seed, stop\."):
        Options.parse({"frames": 3}, allowed=("seed", "stop"))


def test_a_turn_keeps_what_it_does_not_set() -> None:
    options = Options.parse({"frames": 4, "temperature": 0.5, "seed": 3}, stop_token_ids=(2,))
    turn = options.for_turn({"seed": 4, "stop": ["x"], "top_k": None})
    assert turn == Options.parse({"frames": 4, "temperature": 0.5, "seed": 4, "stop": ("x",)}, stop_token_ids=(2,))
    with pytest.raises(ArgumentError, match="The option system cannot change here"):
        options.for_turn({"system": "Be brief."})


@pytest.mark.parametrize(
    ("options", "default", "expected"),
    [
        ({}, EIGHT, EIGHT),
        ({}, ONE_A_SECOND, ONE_A_SECOND),
        ({"frames": 3}, EIGHT, FrameSampling(rule="arange", num_frames=3)),
        ({"frames": 3}, ONE_A_SECOND, FrameSampling(rule="linspace", num_frames=3)),
        ({"fps": 2}, EIGHT, FrameSampling(rule="fps", fps=2, num_frames=None, max_frames=100)),
        ({"fps": 2}, ONE_A_SECOND, FrameSampling(rule="fps", fps=2, num_frames=None, max_frames=64)),
        ({"fps": 2, "frames": 5}, EIGHT, FrameSampling(rule="fps", fps=2, num_frames=None, max_frames=5)),
    ],
)
def test_sampling(options: dict[str, Any], default: FrameSampling, expected: FrameSampling) -> None:
    assert MediaOptions(**options).sampling(default, max_frames=100) == expected


def test_limits_take_the_permission_for_private_hosts() -> None:
    assert MediaOptions().media_limits() == MediaLimits()
    own = MediaLimits(max_bytes=5)
    assert MediaOptions(limits=own).media_limits() == own
    assert MediaOptions(limits=own, allow_private_hosts=True).media_limits() == MediaLimits(
        max_bytes=5, allow_private_hosts=True
    )


def test_drawing_options_without_drawing_give_a_warning() -> None:
    assert Options.parse({"top_p": 0.9, "top_k": 5}).warnings == (
        "top_k 5, top_p 0.9: without effect at temperature 0, where the likeliest token is always taken.",
    )
    assert Options.parse({"top_p": 0.9, "temperature": 1.0}).warnings == ()
    assert Options.parse({"top_p": 1.0, "seed": 1}).warnings == ()

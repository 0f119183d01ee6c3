"""Limits are checked when they are made."""

import pytest

from videolm.errors import ArgumentError
from videolm.media.limits import MediaLimits


@pytest.mark.parametrize("name", ["max_bytes", "timeout_s", "max_pixels", "max_decode_s", "max_frames"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "9", None, True])
def test_impossible_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=rf"^{name} is {value!r}\. Expected a number above 0\."):
        MediaLimits(**{name: value})  # type: ignore[arg-type]


def test_no_redirect_may_be_allowed() -> None:
    assert MediaLimits(max_redirects=0).max_redirects == 0

"""StopStrings: the text before the stop, whatever the pieces it came in."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from videolm.generation.stopping import StopStrings

TEXTS = st.text(alphabet="ab<é", max_size=30)
STOPS = st.lists(st.text(alphabet="ab<é", min_size=1, max_size=4), max_size=3)


def given_out(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    matcher = StopStrings(stops)
    out = [matcher.push(piece) for piece in pieces]
    return [*out, matcher.flush()], matcher.found


def cut(text: str, stops: list[str]) -> str:
    """The definition, slowly: the shortest beginning that ends with a stop string, without its longest one."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def test_a_stop_string_across_pieces_is_found_and_left_out() -> None:
    assert given_out(["one EN", "D two"], ["END"]) == (["one ", "", ""], "END")


def test_text_that_may_become_a_stop_string_is_held_back_until_it_cannot() -> None:
    assert given_out(["a<", "/", "b>"], ["</s>"]) == (["a", "", "</b>", ""], None)


def test_held_text_comes_at_the_end() -> None:
    assert given_out(["a</"], ["</s>"]) == (["a", "</"], None)


def test_of_two_stop_strings_the_first_complete_one_counts() -> None:
    assert given_out(["xabcd"], ["abcd", "b"]) == (["xa", ""], "b")


def test_of_two_that_end_together_the_longer_one_counts() -> None:
    assert given_out(["xabc"], ["c", "abc"]) == (["x", ""], "abc")


def test_nothing_follows_a_stop() -> None:
    assert given_out(["a.", "b", "."], ["."]) == (["a", "", "", ""], ".")


def test_without_stop_strings_text_passes_at_once() -> None:
    assert given_out(["a", "b"], []) == (["a", "b", ""], None)


@given(text=TEXTS, stops=STOPS, data=st.data())
def test_any_chunking_gives_the_same_text(text: str, stops: list[str], data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.integers(0, len(text)), max_size=8).map(sorted))
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert "".join(given_out(pieces, stops)[0]) == cut(text, stops)


@given(text=TEXTS, stops=STOPS)
def test_no_more_is_held_back_than_may_become_a_stop(text: str, stops: list[str]) -> None:
    matcher = StopStrings(stops)
    seen = ""
    for length, character in enumerate(text, 1):
        seen += matcher.push(character)
        if matcher.found is not None:
            break
        held = text[len(seen) : length]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_stopping_imports_no_torch() -> None:
    code = "import sys, videolm.generation.stopping; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

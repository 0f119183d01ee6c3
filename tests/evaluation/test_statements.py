"""Descriptions in many styles and the statements that are read out of them."""

import pytest

from videolm.evaluation.tasks.statements import parse_statements

RED, BLUE = "red circle", "blue square"


def facts(text: str) -> set[str]:
    return {str(statement) for statement in parse_statements(text)}


def both(red: str, blue: str) -> set[str]:
    return {f"{RED} there", f"{RED} does {red}", f"{BLUE} there", f"{BLUE} does {blue}"}


@pytest.mark.parametrize(
    "text",
    [
        "A red circle moves left and a blue square stays still.",
        "a red circle moves left. a blue square stays still",
        "The video shows a red circle moving to the left, and a blue square that does not move.",
        "There is a red circle. It moves left. There is a blue square. It stays still.",
        "A circle that is red moves leftwards while a stationary blue square is visible.",
        "Red circle: left. Blue square: still.",
        "A red circle and a blue square. The circle moves left. The square stays still.",
        "Moving left is a red circle; a blue square is motionless.",
        "A red-coloured circle, moving left, and a small blue square, which stays still.",
        "A red circle moves left. The blue square is not moving and there is no green star.",
        "There is a red circle; the red shape moves left. A blue square remains in place.",
    ],
)
def test_one_scene_in_many_words(text: str) -> None:
    assert facts(text) == both("left", "still")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red circle and a blue square move up and to the left.", both("up-left", "up-left")),
        ("A red circle and a blue square are there. Both grow.", both("growing", "growing")),
        ("A red circle moves up, a blue square moves up.", both("up", "up")),
        ("A rotating red circle and a shrinking blue square.", both("rotating", "shrinking")),
        ("A red circle bounces up and down and a blue square moves down.", both("bouncing", "down")),
        ("A red circle moves to the upper right and a blue square moves down-left.", both("up-right", "down-left")),
    ],
)
def test_predicates_belong_to_their_things(text: str, expected: set[str]) -> None:
    assert facts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A red circle appears in the middle and a blue square stays still.",
            {*both("appears", "still"), f"{RED} when middle"},
        ),
        (
            "In the middle, a red circle appears, then a blue square disappears late.",
            {*both("appears", "disappears"), f"{RED} when middle", f"{BLUE} when late"},
        ),
        (
            "A red circle vanishes at the beginning and a blue square shows up near the end.",
            {*both("disappears", "appears"), f"{RED} when early", f"{BLUE} when late"},
        ),
        (
            "A red circle appears early at the top left.",
            {f"{RED} there", f"{RED} does appears", f"{RED} when early", f"{RED} at top left"},
        ),
    ],
)
def test_events_and_their_times(text: str, expected: set[str]) -> None:
    assert facts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A red circle at the top left and a blue square in the center.",
            {f"{RED} there", f"{RED} at top left", f"{BLUE} there", f"{BLUE} at center"},
        ),
        ("A red circle is in the upper right corner of the picture.", {f"{RED} there", f"{RED} at top right"}),
        ("On the left there is a red circle.", {f"{RED} there", f"{RED} at left"}),
        ("Bottom right: a red circle.", {f"{RED} there", f"{RED} at bottom right"}),
        ("A red circle in the middle.", {f"{RED} there", f"{RED} at center"}),
        ("A red circle to the left of a blue square.", {f"{RED} there", f"{BLUE} there"}),
        ("There are two shapes.", {"count two"}),
        ('A red circle. The text says "GO".', {f"{RED} there", "text go"}),
        ("The text says UP. A red circle at the top.", {"text up", f"{RED} there", f"{RED} at top"}),
        ("The number 42 is printed above a red circle.", {"text 42", f"{RED} there"}),
        ("A circle moves left.", {"circle there", "circle does left"}),
        ("A red shape grows.", {"red shape there", "red shape does growing"}),
        ("There is no red circle.", set()),
        ("I don't know.", set()),
        ("", set()),
    ],
)
def test_pictures_and_oddities(text: str, expected: set[str]) -> None:
    assert facts(text) == expected

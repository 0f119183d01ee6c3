"""Sentences about the world: answers, descriptions and the phrasings of each question.

The last two phrasings of each task are kept out of training, so that a test can ask in words never seen.
"""

from __future__ import annotations

from typing import Final

from videolm.world.scene import Scene, Shape

NUM_HELD_OUT_PHRASINGS: Final = 2

MOTION_CLAUSES: Final = {
    "still": "stays still",
    "left": "moves left",
    "right": "moves right",
    "up": "moves up",
    "down": "moves down",
    "up-left": "moves up and to the left",
    "up-right": "moves up and to the right",
    "down-left": "moves down and to the left",
    "down-right": "moves down and to the right",
    "growing": "grows",
    "shrinking": "shrinks",
    "rotating": "rotates",
    "bouncing": "bounces",
}
MOTION_ANSWERS: Final = {
    "left": "Left.",
    "right": "Right.",
    "up": "Up.",
    "down": "Down.",
    "up-left": "Up and to the left.",
    "up-right": "Up and to the right.",
    "down-left": "Down and to the left.",
    "down-right": "Down and to the right.",
    **{motion: f"It {MOTION_CLAUSES[motion]}." for motion in ("still", "growing", "shrinking", "rotating", "bouncing")},
}
PERIOD_CLAUSES: Final = {"early": "early", "middle": "in the middle", "late": "late"}
PERIOD_ANSWERS: Final = {"early": "Early.", "middle": "In the middle.", "late": "Late."}
UNKNOWN_ANSWER: Final = "I don't know."

PHRASINGS: Final[dict[str, tuple[str, ...]]] = {
    "colour": (
        "What color is the {kind}?",
        "What colour is the {kind}?",
        "Which color does the {kind} have?",
        "Which colour does the {kind} have?",
        "The {kind} has what color?",
        "Name the colour of the {kind}.",
        "Tell me the color of the {kind}.",
        "What is the color of the {kind}?",
        "In what color is the {kind} painted?",
        "What's the colour of the {kind} in this {view}?",
    ),
    "shape": (
        "What shape is the {colour} one?",
        "What shape is {colour}?",
        "Which shape is {colour}?",
        "What is the shape of the {colour} object?",
        "Name the {colour} shape.",
        "What kind of shape is the {colour} thing?",
        "Tell me the shape of the {colour} figure.",
        "The {colour} object is what shape?",
        "Which form does the {colour} object have?",
        "What is the {colour} thing in the {view}?",
    ),
    "motion": (
        "Where does the {name} move?",
        "Which way does the {name} move?",
        "How does the {name} move?",
        "What does the {name} do?",
        "In which direction does the {name} go?",
        "Describe the motion of the {name}.",
        "Where is the {name} going?",
        "What is the {name} doing?",
        "What is the movement of the {name}?",
        "Which direction is the {name} moving in?",
    ),
    "count": (
        "How many {things} are there?",
        "How many {things} can you see?",
        "Count the {things}.",
        "What is the number of {things}?",
        "How many {things} are in the {view}?",
        "Tell me how many {things} there are.",
        "How many {things} do you see?",
        "Give the number of {things}.",
        "How many {things} does the {view} show?",
        "What number of {things} is visible?",
    ),
    "presence": (
        "Is there a {name}?",
        "Is there a {name} in the {view}?",
        "Can you see a {name}?",
        "Do you see a {name}?",
        "Does the {view} show a {name}?",
        "Is a {name} visible?",
        "Is a {name} present?",
        "Does the {view} contain a {name}?",
        "Is any {name} in this {view}?",
        "Do you notice a {name} here?",
    ),
    "left or right": (
        "Is the {name} to the left or to the right of the {other}?",
        "Is the {name} left or right of the {other}?",
        "On which side of the {other} is the {name}, left or right?",
        "Left or right of the {other}: where is the {name}?",
        "Is the {name} on the left or on the right of the {other}?",
        "Seen from the {other}, is the {name} left or right?",
        "Does the {name} stand left or right of the {other}?",
        "The {name} is on which side of the {other}, left or right?",
        "To which side of the {other} do you find the {name}, left or right?",
        "Would you say the {name} is left or right of the {other}?",
    ),
    "above or below": (
        "Is the {name} above or below the {other}?",
        "Above or below the {other}: where is the {name}?",
        "Is the {name} higher than the {other} or lower, above or below?",
        "Does the {name} stand above or below the {other}?",
        "Seen from the {other}, is the {name} above or below?",
        "Where is the {name}, above or below the {other}?",
        "The {name} is where, above or below the {other}?",
        "Is the {name} placed above or below the {other}?",
        "Would you say the {name} is above or below the {other}?",
        "Do you find the {name} above or below the {other}?",
    ),
    "first": (
        "What happens first?",
        "What happens first in the {view}?",
        "What is the first thing that happens?",
        "Which event comes first?",
        "What is the first event?",
        "Name the first event.",
        "Tell me what happens first.",
        "What do you see happen first?",
        "Which change comes first in this {view}?",
        "What takes place first?",
    ),
    "last": (
        "What happens last?",
        "What happens last in the {view}?",
        "What is the last thing that happens?",
        "Which event comes last?",
        "What is the last event?",
        "Name the last event.",
        "Tell me what happens last.",
        "What do you see happen last?",
        "Which change comes last in this {view}?",
        "What takes place last?",
    ),
    "when": (
        "When does the {name} {event}?",
        "At what point does the {name} {event}?",
        "Does the {name} {event} early, in the middle or late?",
        "In which part of the {view} does the {name} {event}?",
        "Early, in the middle or late: when does the {name} {event}?",
        "When in the {view} does the {name} {event}?",
        "Tell me when the {name} {events}.",
        "At what time does the {name} {event}?",
        "How far into the {view} does the {name} {event}?",
        "When can one see the {name} {event}?",
    ),
    "text": (
        "What does the text say?",
        "What is written here?",
        "Read the text.",
        "What word or number is printed in the {view}?",
        "What do the letters say?",
        "Which text is printed?",
        "What is the text in the {view}?",
        "Read what is written.",
        "What can you read here?",
        "What does the writing in the {view} say?",
    ),
    "unknown": (
        "What is the name of the {noun}?",
        "What is the {noun} doing?",
        "How old is the {noun}?",
        "Where was the {noun} bought?",
        "What is the {noun} thinking about?",
        "What does the {noun} smell like?",
        "Who owns the {noun}?",
        "Why is the {noun} so loud?",
        "Which brand is the {noun}?",
        "How much does the {noun} cost?",
    ),
    "description": (
        "Describe the {view}.",
        "What happens in the {view}?",
        "Describe what you see.",
        "What do you see?",
        "Tell me what the {view} shows.",
        "Give a description of the {view}.",
        "What is shown in this {view}?",
        "Please describe this {view}.",
        "Please provide a detailed description of the {view}.",
        "What can be seen here?",
    ),
    "path": (
        "Where does the {name} start and end?",
        "From where to where does the {name} go?",
        "Name the start and the end of the path of the {name}.",
        "Where is the {name} at the beginning and at the end?",
    ),
    "place": (
        "Where is the {name}?",
        "In which part of the {view} is the {name}?",
        "At what place do you see the {name}?",
        "Tell me where the {name} is.",
    ),
}
MORE_PHRASINGS: Final[dict[str, tuple[str, ...]]] = {
    "colour": (
        "What is the {kind}'s color?",
        "The {kind} is what colour?",
        "Do you know the color of the {kind}?",
        "What colour do you see on the {kind}?",
        "Say the color of the {kind}.",
        "{kind}: which colour?",
        "Which color is the {kind} in the {view}?",
        "How is the {kind} colored?",
    ),
    "shape": (
        "What is the {colour} object?",
        "What is the {colour} thing?",
        "What is {colour} in the {view}?",
        "Which object is {colour}?",
        "What form is the {colour} one?",
        "Say what the {colour} thing is.",
        "Is the {colour} one a circle, a square, a triangle, a star, a ring or a cross?",
        "What {colour} shape do you see?",
    ),
    "motion": (
        "What happens to the {name}?",
        "What motion does the {name} make?",
        "Which direction does the {name} take?",
        "Tell me how the {name} moves.",
        "Does the {name} move, and where?",
        "What does the {name} do in this {view}?",
        "In what direction is the {name} travelling?",
        "How is the {name} moving?",
    ),
    "count": (
        "How many {things} does this {view} have?",
        "How many {things} are visible?",
        "What number of {things} is there?",
        "Say how many {things} there are.",
        "How many {things} in total?",
        "Number of {things}?",
    ),
    "presence": (
        "Does a {name} appear in the {view}?",
        "Is there some {name}?",
        "Is there any {name}?",
        "Do you see any {name} in this {view}?",
        "Is a {name} in the {view}?",
        "Can a {name} be seen?",
        "Does this {view} have a {name} in it?",
        "Have you noticed a {name}?",
    ),
    "left or right": (
        "Left or right: where is the {name} from the {other}?",
        "Where is the {name}, left or right of the {other}?",
        "Do you see the {name} left or right of the {other}?",
        "Which side of the {other} is the {name} on, left or right?",
    ),
    "above or below": (
        "Above or below: where is the {name} from the {other}?",
        "Do you see the {name} above or below the {other}?",
        "Is the {name} over or under the {other}, above or below?",
        "Does the {name} lie above or below the {other}?",
    ),
    "first": (
        "What comes first?",
        "What is the first change?",
        "Which thing happens first in this {view}?",
        "What occurs first?",
        "Say what happens first.",
    ),
    "last": (
        "What comes last?",
        "What is the last change?",
        "Which thing happens last in this {view}?",
        "What occurs last?",
        "Say what happens last.",
    ),
    "when": (
        "When does one see the {name} {event}?",
        "How early or late does the {name} {event}?",
        "Say when the {name} {events}.",
        "Is it early, in the middle or late that the {name} {events}?",
        "At which time does the {name} {event} in the {view}?",
    ),
    "text": (
        "What does it say?",
        "What is printed?",
        "What does the writing say?",
        "Which word or number do you read?",
        "Can you read the text?",
        "What text do you see in the {view}?",
    ),
    "unknown": (
        "What does the {noun} want?",
        "Where does the {noun} live?",
        "How big is the {noun}?",
        "Who made the {noun}?",
        "What is the {noun} made of?",
        "When was the {noun} born?",
        "How heavy is the {noun}?",
        "Does the {noun} sing well?",
    ),
    "description": (
        "What is in the {view}?",
        "Describe everything.",
        "Describe this {view} in words.",
        "Say what you see in the {view}.",
        "What is going on in the {view}?",
        "Please tell me what the {view} shows.",
        "Give a detailed description.",
        "Write down what happens.",
    ),
}
"""Further ways to ask, for training alone: the more it hears, the better it takes what it never heard."""
NOUNS: Final = (
    "dog", "man", "woman", "car", "house", "music", "song", "bird", "city", "child", "tree", "phone", "teacher", "king",
    "bread", "river", "boat", "singer", "horse", "doctor",
)  # fmt: skip
HELD_OUT_NOUNS: Final = ("cat", "train", "guitar", "baker")


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def clause(shape: Shape) -> str:
    """What one shape does, as a clause: a red circle moves left."""
    if shape.event is None:
        return f"{article(shape.name)} {MOTION_CLAUSES[shape.motion]}"
    return f"{article(shape.name)} {shape.event} {PERIOD_CLAUSES[shape.period]}"


def at_place(place: str) -> str:
    """The place with its preposition: at the top left, in the center."""
    return f"{'in' if place == 'center' else 'at'} the {place}"


def describe(scene: Scene, place_of_shape: dict[str, str]) -> str:
    """The whole scene in one to three sentences; shapes from left to right, two to a sentence."""
    if scene.is_clip:
        clauses = [clause(shape) for shape in scene.in_reading_order()]
    else:
        clauses = [f"{article(s.name)} {at_place(place_of_shape[s.name])}" for s in scene.in_reading_order()]
    pairs = [" and ".join(clauses[start : start + 2]) for start in range(0, len(clauses), 2)]
    if scene.text is not None:
        pairs.append(f"the text says {scene.text.words}")
    return " ".join(f"{pair[0].upper()}{pair[1:]}." for pair in pairs) or "There is nothing."

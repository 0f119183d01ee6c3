"""Sentences about the world: answers and descriptions, and the nouns that it has nothing of."""

from __future__ import annotations

from typing import Final

from videolm.world.scene import Scene, Shape

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

NOUNS: Final = (
    "dog", "man", "woman", "car", "house", "music", "song", "bird", "city", "child", "tree", "phone", "teacher", "king",
    "bread", "river", "boat", "singer", "horse", "doctor",
)  # fmt: skip
MORE_NOUNS: Final = (
    "actor", "airplane", "apple", "arm", "army", "artist", "baby", "ball", "banana", "bank", "bear", "bed", "bee",
    "beer", "bell", "bicycle", "book", "boss", "bottle", "bowl", "boy", "bridge", "brother", "bucket", "bus",
    "butter", "button", "cake", "camel", "camera", "candle", "captain", "castle", "chair", "cheese", "chicken",
    "church", "clock", "cloud", "coat", "coffee", "computer", "cook", "cow", "crowd", "cup", "dancer", "daughter",
    "desk", "dinner", "dolphin", "door", "dragon", "dress", "driver", "drum", "duck", "eagle", "ear", "egg",
    "elephant", "engine", "eye", "face", "farmer", "father", "feather", "fire", "fish", "flag", "flower", "fly",
    "forest", "fork", "fox", "friend", "frog", "garden", "ghost", "girl", "glass", "goat", "grandfather", "grass",
    "hair", "hammer", "hand", "hat", "head", "hill", "hospital", "hotel", "husband", "island", "jacket", "judge",
    "kitchen", "kitten", "knife", "lady", "lake", "lamp", "lawyer", "leaf", "leg", "lemon", "letter", "library",
    "lion", "machine", "manager", "market", "mirror", "money", "monkey", "moon", "mother", "motorbike", "mountain",
    "mouse", "museum", "neighbor", "newspaper", "nurse", "ocean", "office", "onion", "orchestra", "owl", "painter",
    "pants", "paper", "parrot", "pen", "pencil", "piano", "picture", "pig", "pilot", "pirate", "plane", "plant",
    "plate", "player", "poet", "policeman", "pony", "potato", "priest", "prince", "princess", "queen", "rabbit",
    "radio", "rain", "robot", "roof", "rope", "sailor", "salad", "salt", "sandwich", "school", "sea", "sheep", "ship",
    "shirt", "shoe", "shop", "sister", "snake", "snow", "soap", "sofa", "soldier", "son", "soup", "spider", "spoon",
    "station", "stone", "street", "student", "sugar", "sun", "table", "tailor", "tea", "tent", "tiger", "tomato",
    "tower", "toy", "truck", "turtle", "uncle", "village", "violin", "waiter", "wall", "watch", "water", "whale",
    "wheel", "wife", "window", "wind", "wine", "wolf", "worker", "writer", "zebra",
)  # fmt: skip
"""For training alone."""
HELD_OUT_NOUNS: Final = ("cat", "train", "guitar", "baker")


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def clause(shape: Shape) -> str:
    """What one shape does, as a clause: a red circle moves left."""
    if shape.event is None:
        return f"{article(shape.name)} {MOTION_CLAUSES[shape.motion]}"
    return f"{article(shape.name)} {shape.event} {PERIOD_CLAUSES[shape.period]}"


def action_word(shape: Shape) -> str:
    """What one shape does, as one word: ``rotating``, or ``appears-early``."""
    return f"{shape.event}-{shape.period}" if shape.event else shape.motion


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

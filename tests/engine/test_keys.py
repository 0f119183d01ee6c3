"""Contents and keys: what is told apart, and what is the same."""

from __future__ import annotations

from videolm.engine.keys import block_key, content_of, root_key

from ..models.tiny import clip, prompt

CLIP = clip()


def test_text_is_its_ids_and_media_are_their_keys_and_positions() -> None:
    inputs = prompt([5, 6], CLIP, [7], CLIP)
    content = content_of(inputs, ["a", "b"])
    size = CLIP.num_tokens
    assert (content[:2], content[2 + size]) == ([5, 6], 7)
    first, second = content[2 : 2 + size], content[3 + size :]
    assert first == list(range(first[0], first[0] + size))
    assert not set(first) & set(second)
    assert min(first + second) > 2**63


def test_the_same_medium_in_another_place_has_the_same_content() -> None:
    one, other = content_of(prompt(CLIP, [1]), ["a"]), content_of(prompt([1, 2], CLIP), ["a"])
    assert one[: CLIP.num_tokens] == other[2:]


def test_a_key_holds_everything_before_it() -> None:
    root = root_key(1.0)
    keys = [
        block_key(root, [1, 2]),
        block_key(root_key(2.0), [1, 2]),
        block_key(root, [2, 1]),
        block_key(root, [1]),
        block_key(block_key(root, [1]), [2]),
        block_key(root, [2**128, 2]),
    ]
    assert len(set(keys)) == len(keys)
    assert block_key(root_key(1), (1, 2)) == keys[0]

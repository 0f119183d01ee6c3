"""Answers that are held to a grammar: whatever a model would rather say, they parse, validate and end."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

import videolm
from videolm.errors import ArgumentError, GenerationError, MissingExtraError
from videolm.generation.structured import GrammarProcessor, json_schema_processor, regex_processor
from videolm.processing.tokenizer import Tokenizer

from ..processing.conftest import KINDS, make_tokenizer

SHORT = {"type": "string", "maxLength": 6}
PERSON = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 300},
        "sex": {"enum": ["f", "m"]},
        "name": SHORT,
    },
    "required": ["age", "sex"],
    "additionalProperties": False,
}
LINKED = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "minimum": 1, "maximum": 9},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]},
    },
    "required": ["value", "next"],
    "additionalProperties": False,
}
SCHEMAS: list[Any] = [
    PERSON,
    {"$ref": "#/$defs/link", "$defs": {"link": LINKED}},
    {"type": "array", "items": {"type": "number", "minimum": -1.5, "maximum": 2.25}, "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "null"}, SHORT], "items": False},
    {"type": "object", "patternProperties": {"^p[0-9]$": {"type": "boolean"}}, "additionalProperties": False},
    {"anyOf": [{"type": "boolean"}, {"const": {"k": [1, "é"]}}]},
    {"type": "integer", "multipleOf": 7, "exclusiveMinimum": -50, "exclusiveMaximum": 1000},
    {"type": ["string", "null"], "minLength": 2, "maxLength": 3},
    {"type": "string", "pattern": "^[a-z]{2,5}-\\d+$", "maxLength": 12},
    {"type": "string", "format": "date"},
]


def bundled() -> Tokenizer:
    return Tokenizer.from_folder(Path(videolm.__file__).parent / "mini" / "weights")


@pytest.fixture(scope="module", params=["bundled", *KINDS])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """The bundled model's, and those of the families: byte-level, as Qwen's, and in the manner of sentencepiece."""
    return bundled() if request.param == "bundled" else make_tokenizer(request.param)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return make_tokenizer("byte_level")


def drawn(processor: GrammarProcessor, tokenizer: Tokenizer, seed: int, *, most: int = 600) -> list[int]:
    """What a model with random weights says."""
    generator, ids = torch.Generator().manual_seed(seed), list[int]()
    while len(ids) < most:
        logits = torch.randn(tokenizer.size + 5, generator=generator)  # Models may have more rows than tokens.
        ids.append(int(processor(logits, tuple(ids)).argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            return ids[:-1]
    raise AssertionError(f"no end: {tokenizer.decode(ids)!r}")


def allowed_after(processor: GrammarProcessor, tokenizer: Tokenizer, text: str) -> set[int]:
    ids = tokenizer.encode(text, special=False)
    return set(processor(torch.zeros(tokenizer.size), ids).isfinite().nonzero()[:, 0].tolist())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:50])
def test_json_parses_validates_and_ends(tokenizer: Tokenizer, schema: Any) -> None:
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for seed in range(4):
        text = tokenizer.decode(drawn(json_schema_processor(schema, tokenizer), tokenizer, seed)).strip()
        validator.validate(json.loads(text))
        assert "\n" not in text


def test_texts_match_their_expression_and_end(tokenizer: Tokenizer) -> None:
    pattern = r"(yes|no), [0-9]{2}|[^a-z]{3}é/"
    texts = {
        tokenizer.decode(drawn(regex_processor(pattern, tokenizer), tokenizer, seed)).strip(" ") for seed in range(8)
    }
    assert all(re.fullmatch(pattern, text) for text in texts)
    assert len(texts) > 1


def test_a_whole_answer_can_only_end(tokenizer: Tokenizer) -> None:
    processor = json_schema_processor(PERSON, tokenizer)
    assert allowed_after(processor, tokenizer, '{"age": 3, "sex": "f"}') == {tokenizer.eos_token_id}


@pytest.mark.parametrize("forced", ["e\u0301, \u2581 and \ufb01", "a  b", "ﾃ", " x"])
def test_a_text_that_a_tokenizer_would_change_can_be_said(forced: str) -> None:
    """Where a grammar leaves one text, it is spelled to the letter, whatever the tokenizer makes of such texts."""
    data = json.loads(make_tokenizer("byte_level").to_json())
    data["normalizer"] = {"type": "NFKC"}
    lacking = json.loads(make_tokenizer("metaspace_first").to_json())
    vocabulary = {token: index for token, index in lacking["model"]["vocab"].items() if token != "▁"}
    merges = [merge for merge in lacking["model"]["merges"] if "▁" not in merge]
    lacking["model"] |= {"vocab": vocabulary, "merges": merges}
    for changed in (data, lacking):
        tokenizer = Tokenizer(Backend.from_str(json.dumps(changed)), {"eos_token": "</s>", "unk_token": "<unk>"})
        processor = json_schema_processor({"const": {"k": forced}}, tokenizer)
        ids = drawn(processor, tokenizer, 0)
        assert json.loads(b"".join(spelled(tokenizer, index) for index in ids)) == {"k": forced}


def spelled(tokenizer: Tokenizer, index: int) -> bytes:
    """A token's own bytes."""
    token = tokenizer._backend.id_to_token(index)
    if match := re.fullmatch("<0x(..)>", token):
        return bytes([int(match[1], 16)])
    if isinstance(tokenizer._backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return bytes_of(token)
    return token.replace("▁", " ").encode()


def bytes_of(token: str) -> bytes:
    """What the letters of byte-level tokens stand for."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    letters |= {chr(256 + place): byte for place, byte in enumerate(others)}
    return bytes(letters[letter] for letter in token)


def test_any_of_the_given_tokens_ends_it(plain: Tokenizer) -> None:
    ends = [plain.token_to_id(token) for token in ("</s>", "<|im_end|>")]
    assert None not in ends
    processor = regex_processor("yes", plain, ends)  # type: ignore[arg-type]
    assert allowed_after(processor, plain, "yes") == set(ends)


def test_json_is_written_in_one_way(plain: Tokenizer) -> None:
    processor = json_schema_processor({"const": {"a": 1, "b": [1, 2]}}, plain)
    texts = {plain.decode(drawn(processor, plain, seed)).strip() for seed in range(6)}
    assert texts == {json.dumps({"a": 1, "b": [1, 2]})}


@pytest.mark.parametrize("text", ['{"a": "x", "a": true}', '{"\\u0061": true}', '{"b": true, "a": true}', '{"a":"x"}'])
def test_a_key_cannot_be_written_twice_or_in_disguise(plain: Tokenizer, text: str) -> None:
    schema = {"type": "object", "properties": {"a": SHORT}, "additionalProperties": {"type": "boolean"}}
    assert allowed_after(json_schema_processor(schema, plain), plain, '{"a": "x", "b": true}') == {plain.eos_token_id}
    with pytest.raises(GenerationError, match="The answer cannot be held to its JSON schema any further"):
        allowed_after(json_schema_processor(schema, plain), plain, text)


def test_a_processor_follows_whatever_ids_it_is_called_with(plain: Tokenizer) -> None:
    """Ids may come several at a time, again, and from another beginning."""
    ids = plain.encode('{"age": 12, "sex": "f"}', special=False)
    logits = torch.randn(plain.size)

    def fresh(count: int) -> list[float]:
        return json_schema_processor(PERSON, plain)(logits, ids[:count]).tolist()

    processor = json_schema_processor(PERSON, plain)
    for count in (0, 1, 1, 5, len(ids), 3, 4, 0, len(ids) - 1):
        assert processor(logits, tuple(ids[:count])).tolist() == fresh(count)
    with pytest.raises(GenerationError):
        processor(logits, [ids[0], ids[0]])
    assert processor(logits, ids[:2]).tolist() == fresh(2)


def test_two_requests_do_not_share_a_state(plain: Tokenizer) -> None:
    one, other = (json_schema_processor(PERSON, plain) for _ in range(2))
    start = allowed_after(other, plain, "")
    allowed_after(one, plain, '{"age": 12, ')
    assert allowed_after(other, plain, "") == start


def test_fewer_rows_than_tokens_are_no_matter(plain: Tokenizer) -> None:
    processor = regex_processor("[a-z ]+", plain)
    assert len(processor(torch.zeros(plain.size - 40), ())) == plain.size - 40
    with pytest.raises(GenerationError, match="no token can follow what was generated so far"):
        processor(torch.zeros(5), ())


def test_logits_that_are_allowed_stay_as_they_are(plain: Tokenizer) -> None:
    logits = torch.randn(plain.size)
    held = regex_processor("[a-z]+", plain)(logits, ())
    allowed = held != -math.inf
    assert torch.equal(held[allowed], logits[allowed])
    assert 0 < allowed.sum() < len(logits)


# --- what is refused ---


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"not": {"type": "string"}}, r'cannot be held to \(Unimplemented keys: \["not"\]\)'),
        ({"type": "array", "uniqueItems": True}, r'\(Unimplemented keys: \["uniqueItems"\]\)'),
        ({"type": "strin"}, r"\(Invalid type: strin\)"),
        ({"type": "string", "format": "colour"}, r"\(Unknown format: colour\)"),
        ({"type": "string", "pattern": "(?=a)b"}, r"\(look-around, including look-ahead and look-behind, is not"),
        ({"$ref": "https://example.com/schema.json"}, "is not present in a registry"),
        ({"$ref": "#/$defs/missing"}, r"\(Pointer '/\$defs/missing' does not exist\)"),
        ({"$ref": "#"}, r"\(NoExtensionBias\)"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, r"Unsatisfiable schema: minimum \(5\) is greater"),
        ({"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, r"\(oneOf constraints are not supported\)"),
        (False, "is false, which nothing matches: expected an object"),
        ("string", "is a str: expected an object"),
        ([{}], "is a list: expected an object"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "has the key x-guidance"),
        ({"const": math.nan}, "is no JSON"),
        ({"const": {1, 2}}, "is no JSON"),
        ({"enum": ["x" * 70_000]}, "has 70014 bytes: expected at most 65536"),
        ({"enum": [0] * 70_000}, "has 70000 values: expected no more than 65536 bytes hold"),
        ({"anyOf": [{"const": number} for number in range(500)]}, "has 501 objects: expected at most 500"),
        ({"type": "integer", "multipleOf": 10_007}, "has a multipleOf of 10007"),
        ({"allOf": [{"multipleOf": 101}, {"multipleOf": 1.01}]}, "has a multipleOf of 10201"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_held_to_is_refused_by_name(plain: Tokenizer, schema: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason) as caught:
        json_schema_processor(schema, plain)
    assert str(caught.value).startswith("The JSON schema ")
    assert len(str(caught.value).splitlines()) == 1


def nested(depth: int) -> Any:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth - 1):
        schema = {"type": "array", "items": schema}
    return schema


def test_depth_is_bounded(plain: Tokenizer) -> None:
    json_schema_processor(nested(63), plain)
    for depth in (65, 5000):
        with pytest.raises(ArgumentError, match="is more than 64 levels deep: expected at most 64"):
            json_schema_processor(nested(depth), plain)
    itself: dict[str, Any] = {}
    itself["items"] = itself
    with pytest.raises(ArgumentError, match="is more than 64 levels deep"):
        json_schema_processor(itself, plain)


@pytest.mark.parametrize("schema", [True, {}])
def test_any_json_may_be_asked_for(plain: Tokenizer, schema: Any) -> None:
    allowed = allowed_after(json_schema_processor(schema, plain), plain, '[1, {"a": null}')
    assert plain.token_to_id("]") in allowed


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", r"cannot be held to \(unclosed group\)"),
        ("a)|(b", r"cannot be held to \(unopened group\)"),
        ("(?!a)b", r"\(look-around, including look-ahead and look-behind, is not supported\)"),
        ("", "has 0 characters: expected a text of 1 to 4096"),
        ("a" * 5000, "has 5000 characters"),
        (b"a", "is a bytes"),
    ],
)
def test_expressions_that_cannot_be_held_to_are_refused(plain: Tokenizer, pattern: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        regex_processor(pattern, plain)


def test_an_answer_needs_an_end() -> None:
    plain = make_tokenizer("byte_level")
    endless = Tokenizer(plain._backend, {})
    with pytest.raises(ArgumentError, match=r"no end token.* Give eos_ids\.$"):
        regex_processor("a", endless)
    regex_processor("a", endless, [2])


def test_the_extra_is_named(plain: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    for make in (lambda: json_schema_processor({}, plain), lambda: regex_processor("a", plain)):
        with pytest.raises(MissingExtraError, match=r"pip install 'videolm\[serve\]'"):
            make()


def test_a_tokenizer_is_taken_over_once_and_let_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_tokenizer("byte_level")
    asked: list[Sequence[int]] = []

    class Counted(Tokenizer):
        def to_json(self) -> str:
            asked.append([])
            return super().to_json()

    counted = Counted(made._backend, {"eos_token": "</s>"})
    before = len(asked)
    for _ in range(3):
        json_schema_processor({}, counted)
    assert len(asked) == before + 1

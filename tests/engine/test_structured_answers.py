"""Answers held to a schema in the engine: together, preempted, guessed ahead, they are those given alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema_rs

from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.generation.structured import json_schema_processor
from videolm.processing.processor import Processor

from ..models.tiny import prompt

SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        "name": {"type": "string", "maxLength": 5},
    },
    "required": ["colour", "sizes", "name"],
    "additionalProperties": False,
}
SMALL = EngineConfig(num_blocks=34, block_size=4, max_batch_tokens=24, max_running=4)


def requests(processor: Processor) -> list[Request]:
    end = processor.tokenizer.eos_token_id
    assert end is not None
    params = SamplingParams(max_new_tokens=110, stop_token_ids=(end,), logprobs=0)
    return [
        Request(
            id=str(index),
            inputs=prompt([1, index + 5, 6]),
            params=replace(params, temperature=index % 2, seed=index, frequency_penalty=0.5 * (index % 3)),
            logits_processors=(json_schema_processor(SCHEMA, processor.tokenizer, (end,)),),
        )
        for index in range(6)
    ]


def test_they_validate_and_are_those_given_alone(tiny_model_folder: Path, processor: Processor) -> None:
    model = auto.load_model(tiny_model_folder)
    alone = [Engine(model, processor, EngineConfig(num_blocks=64)).generate([each])[0] for each in requests(processor)]
    assert [output.error for output in alone] == [None] * 6
    assert len({output.text for output in alone}) > 1
    for output in alone:
        assert output.finish_reason == "stop"
        jsonschema_rs.validate(SCHEMA, json.loads(output.text))
    num_preemptions = 0
    for draft_len in (0, 4):
        engine = Engine(model, processor, replace(SMALL, draft_len=draft_len, draft_ngram=1))
        together = engine.generate(requests(processor))
        num_preemptions += engine.stats().num_preemptions
        assert [output.output_ids for output in together] == [output.output_ids for output in alone]
    assert num_preemptions > 0

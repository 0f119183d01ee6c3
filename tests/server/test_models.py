"""What the server tells about itself: its model, its health, its counts."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"


def samples(http: Any) -> dict[str, float]:
    response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_model_is_listed(client: openai.OpenAI, server: Any) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "videolm")
    assert model.max_model_len == server.backend.loaded.reader.context_len
    assert client.models.retrieve(MODEL) == model


def test_health_needs_nothing(server: Any) -> None:
    with server.http() as http:
        for path in ("/health", "/health/live"):
            response = http.get(path)
            assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_what_was_done_is_counted(serve: Any, clip_part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [clip_part, {"type": "text", "text": "Describe the clip."}]}
    body = {"model": MODEL, "messages": [message], "max_tokens": 3}
    with serve().http() as http:
        before = samples(http)
        assert before["videolm_requests_ended_total{reason=length}"] == 0
        usages = [http.post(PATH, json=body).json()["usage"] for _ in range(2)]
        http.post(PATH, json=body | {"stream": True})
        http.post(PATH, json={})
        http.get("/nowhere/at/all")
        after = samples(http)
    prompt, cached = usages[0]["prompt_tokens"], usages[1]["prompt_tokens_details"]["cached_tokens"]
    expected = {
        "videolm_prompt_tokens_total": 3 * prompt,
        "videolm_visual_tokens_total": 3 * usages[0]["prompt_tokens_details"]["visual_tokens"],
        "videolm_cached_tokens_total": 2 * cached,
        "videolm_generated_tokens_total": 9,
        "videolm_requests_ended_total{reason=length}": 3,
        "videolm_requests_ended_total{reason=abort}": 0,
        "videolm_requests_running": 0,
        "videolm_cache_blocks_used": 0,
        f"videolm_http_requests_total{{method=POST,route={PATH},status=200}}": 3,
        f"videolm_http_requests_total{{method=POST,route={PATH},status=400}}": 1,
        "videolm_http_requests_total{method=other,route=other,status=404}": 1,
        "videolm_first_token_seconds_count": 3,
        "videolm_media_seconds_count": 3,
        "videolm_token_seconds_count": 3,
        f"videolm_http_request_seconds_count{{route={PATH}}}": 4,
    }
    assert {name: after[name] for name in expected} == pytest.approx(expected)
    assert after["videolm_steps_total"] > 0
    assert after["videolm_cache_blocks"] > 0

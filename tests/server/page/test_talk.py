"""A conversation about a clip in a real browser: the strip, the answer as it streams, what it cost, another one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from ..conftest import MODEL, RunningServer, Serve
from .conftest import Visit, Visitor

QUESTION = "Which way does the shape move?"
FOLLOW_UP = "What colour is it?"
WATCH = """
() => {
  window.seen = [];
  new MutationObserver(() => {
    const answer = document.querySelector(".turn:last-child .answer");
    if (answer && answer.textContent !== window.seen.at(-1)) window.seen.push(answer.textContent);
  }).observe(document.querySelector("#turns"), { subtree: true, childList: true, characterData: true });
}
"""
WITH_CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


def test_the_strip_shows_what_the_model_sees(
    visitor: Visitor, server: RunningServer, clip_part: dict[str, Any], demo_clip: Path, shots: Path
) -> None:
    with server.http() as http:
        told = http.post("/v1/inspect", json={"content": [clip_part]}).json()["media"][0]
    visitor.choose(demo_clip)
    assert visitor.frames.count() == told["num_frames"] == 8
    assert visitor.frames.all_inner_texts() == [f"{time:.2f} s" for time in told["frame_times_s"]]
    shown = visitor.frames.locator("img").evaluate_all("(all) => all.map((image) => [image.src, image.naturalWidth])")
    assert shown == [[frame["image"], told["input_width"]] for frame in told["frames"]]
    facts = visitor.page.get_by_role("list", name="What the model sees").get_by_role("listitem").all_inner_texts()
    assert facts == [
        f"{told['duration_s']:.2f} s",
        f"{told['width']} \N{MULTIPLICATION SIGN} {told['height']}",
        f"8 of {told['num_source_frames']} frames",
        f"{told['visual_tokens']} visual tokens",
    ]
    visitor.page.screenshot(path=shots / "strip.png")


def test_the_answer_streams_and_is_the_apis(
    visit: Visit, slow_server: RunningServer, clip_part: dict[str, Any], demo_clip: Path
) -> None:
    visitor = visit(slow_server).go()
    with slow_server.openai() as client:
        content: Any = [clip_part, {"type": "text", "text": "Describe the clip."}]
        completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    visitor.choose(demo_clip)
    visitor.page.evaluate(WATCH)
    answer = visitor.ask("Describe the clip.")
    assert answer == completion.choices[0].message.content
    seen = [text for text in visitor.page.evaluate("window.seen") if text]
    assert len(set(seen)) > 1, "the answer came in one piece"
    assert [text for text in seen if not answer.startswith(text.strip())] == []


def test_a_second_question_is_answered_from_the_cache(visit: Visit, serve: Serve, demo_clip: Path, shots: Path) -> None:
    visitor = visit(serve()).go().choose(demo_clip)
    first = visitor.ask(QUESTION)
    cost = re.fullmatch(
        r"First token after [\d.]+ s (\d+) tokens? in [\d.]+ s (\d+) prompt tokens, none from the cache",
        visitor.measured(),
    )
    assert cost, visitor.measured()
    second = visitor.ask(FOLLOW_UP)
    follow_up = re.fullmatch(
        r"First token after [\d.]+ s \d+ tokens? in [\d.]+ s (\d+) of (\d+) prompt tokens from the cache",
        visitor.measured(),
    )
    assert follow_up, visitor.measured()
    cached, prompt = map(int, follow_up.groups())
    assert 128 < cached < prompt
    assert prompt > int(cost[2])
    assert ("right" in first.lower(), "red" in second.lower()) == (True, True)
    visitor.ask("Describe the clip.")
    visitor.page.wait_for_function("document.querySelector('video').readyState >= HTMLMediaElement.HAVE_CURRENT_DATA")
    visitor.page.screenshot(path=shots / "page.png")


def test_a_follow_up_sends_what_was_said(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    first = visitor.ask(QUESTION)
    with visitor.page.expect_request("**/v1/chat/completions") as sent:
        visitor.ask(FOLLOW_UP)
    body = json.loads(sent.value.post_data or "")
    file_id = body["messages"][0]["content"][0]["file"]["file_id"]
    content = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": QUESTION}]
    assert body == {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": first},
            {"role": "user", "content": FOLLOW_UP},
        ],
        "max_tokens": 256,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_picture_is_asked_about(
    visitor: Visitor, server: RunningServer, picture_part: dict[str, Any], demo_picture: Path, shots: Path
) -> None:
    visitor.choose(demo_picture)
    expect(visitor.frames).to_have_count(1)
    answer = visitor.ask("What colour is the ring?")
    visitor.page.screenshot(path=shots / "picture.png")
    content: Any = [picture_part, {"type": "text", "text": "What colour is the ring?"}]
    with server.openai() as client:
        completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert answer == completion.choices[0].message.content


def test_the_sample_and_a_ready_question_are_two_clicks(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Try the sample clip").click()
    visitor.page.get_by_role("button", name="Describe the video.").click()
    expect(visitor.turns).to_have_count(1)
    assert "red" in visitor.answer().lower()


def test_a_file_is_dropped_anywhere(visitor: Visitor, demo_picture: Path) -> None:
    dropped = visitor.page.evaluate_handle(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([Uint8Array.from(bytes)], "dropped.png", { type: "image/png" }));
          return data;
        }""",
        list(demo_picture.read_bytes()),
    )
    visitor.page.dispatch_event("body", "dragenter", {"dataTransfer": dropped})
    expect(visitor.page.get_by_text("Let go to open it")).to_be_visible()
    visitor.page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(visitor.page.get_by_role("heading", name="dropped.png")).to_be_visible()
    expect(visitor.frames).to_have_count(1)
    expect(visitor.page.get_by_text("Let go to open it")).to_be_hidden()


def test_retry_asks_the_same_again(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    first = visitor.ask(QUESTION)
    with visitor.page.expect_request("**/v1/chat/completions") as sent:
        visitor.page.get_by_role("button", name="Retry").click()
    assert len(json.loads(sent.value.post_data or "")["messages"]) == 1
    assert visitor.answer() == first
    expect(visitor.turns).to_have_count(1)
    visitor.ask(FOLLOW_UP)
    expect(visitor.page.get_by_role("button", name="Retry")).to_have_count(1)


def test_settings_change_the_strip_and_the_request_and_outlive_a_reload(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    visitor.page.get_by_role("button", name="Settings").click()
    dialog = visitor.page.get_by_role("dialog", name="Settings")
    dialog.get_by_label("Frames of a video").fill("4")
    dialog.get_by_label("Temperature").fill("0.5")
    dialog.get_by_label("Longest answer, in tokens").fill("2")
    dialog.get_by_role("button", name="Done").click()
    expect(visitor.frames).to_have_count(4)
    with visitor.page.expect_request("**/v1/chat/completions") as sent:
        visitor.ask("Describe the clip.")
    body = json.loads(sent.value.post_data or "")
    assert (body["num_frames"], body["temperature"], body["max_tokens"]) == (4, 0.5, 2)
    expect(visitor.turns.last).to_contain_text("The answer ended at the most tokens that the settings allow.")
    visitor.page.reload()
    visitor.page.get_by_role("button", name="Settings").click()
    expect(dialog.get_by_label("Frames of a video")).to_have_value("4")


def test_what_is_removed_is_removed_from_the_server(visitor: Visitor, server: RunningServer, demo_clip: Path) -> None:
    with visitor.page.expect_response("**/v1/files") as uploaded:
        visitor.choose(demo_clip)
    file_id = uploaded.value.json()["id"]
    with server.http() as http:
        assert http.get(f"/v1/files/{file_id}").status_code == 200
        with visitor.page.expect_response(f"**/v1/files/{file_id}"):
            visitor.page.get_by_role("button", name="Remove").click()
        assert http.get(f"/v1/files/{file_id}").status_code == 404
    expect(visitor.page.get_by_role("heading", name="Ask a video.")).to_be_visible()
    expect(visitor.turns).to_have_count(0)


@pytest.mark.parametrize(
    ("label", "command"),
    [
        pytest.param("Copy as curl", ["sh", "-c"], marks=WITH_CURL),
        ("Copy as Python", [sys.executable, "-c"]),
    ],
)
def test_a_copied_question_runs_and_gives_the_same_answer(
    visit: Visit, demo_clip: Path, label: str, command: list[str]
) -> None:
    visitor = visit(**CLIPBOARD).go().choose(demo_clip)
    answer = visitor.ask('It\'s "quoted" $HOME `id` \\n: which way does the shape move? 漢🎬')
    visitor.page.get_by_role("button", name=label).click()
    expect(visitor.page.get_by_role("button", name="Copied")).to_be_visible()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    ran = subprocess.run([*command, copied], capture_output=True, text=True, check=True, timeout=60)
    said = json.loads(ran.stdout)["choices"][0]["message"]["content"] if label.endswith("curl") else ran.stdout.strip()
    assert said == answer

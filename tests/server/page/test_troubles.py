"""What goes wrong, in the browser: an answer that is stopped or breaks off, refusals in words, keys, hostile text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from ..conftest import RunningServer, Serve
from .conftest import Visit, Visitor

CHAT = "**/v1/chat/completions"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"> [x](javascript:alert(1)) <script>alert(2)</script>"


def refused(status: int) -> str:
    return f"the server responded with a status of {status}"


def trouble(visitor: Visitor, text: str) -> None:
    expect(visitor.page.get_by_role("alert").filter(has_text=text)).to_be_visible()


def answer_with(visitor: Visitor, *events: Any) -> None:
    """Answer the next question with these events instead of the server's."""
    body = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)

    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    visitor.page.route(CHAT, answer, times=1)


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@pytest.mark.parametrize("how", ["button", "key"])
def test_an_answer_is_stopped_and_the_server_stops_too(
    visit: Visit, slow_server: RunningServer, demo_clip: Path, eventually: Callable[..., None], shots: Path, how: str
) -> None:
    visitor = visit(slow_server).go().choose(demo_clip)
    visitor.question.fill("Describe the clip.")
    visitor.question.press("Enter")
    expect(visitor.turns.last.locator(".answer")).not_to_be_empty(timeout=20_000)
    visitor.page.screenshot(path=shots / "streaming.png")
    if how == "button":
        visitor.page.get_by_role("button", name="Stop").click()
    else:
        visitor.page.keyboard.press("Escape")
    expect(visitor.turns.last.get_by_text("Stopped.")).to_be_visible(timeout=1_000)
    assert visitor.answer()
    eventually(lambda: slow_server.backend.engine.stats().num_ended.get("abort") == 1)
    eventually(lambda: slow_server.backend.admission.num_unanswered == 0)
    with visitor.page.expect_request(CHAT) as sent:
        visitor.page.get_by_role("button", name="Retry").click()
    assert len(json.loads(sent.value.post_data or "")["messages"]) == 1


def test_a_file_that_is_no_video_is_refused_in_words(visitor: Visitor, tmp_path: Path, shots: Path) -> None:
    visitor.expected.append(refused(400))
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    visitor.page.get_by_label("Video or picture").set_input_files(path)
    alert = visitor.page.get_by_role("alert").filter(has=visitor.page.get_by_role("button", name="Try again"))
    expect(alert).to_contain_text("notes.mp4 is plain text", timeout=20_000)
    expect(visitor.question).to_be_hidden()
    visitor.page.screenshot(path=shots / "trouble.png")
    visitor.page.get_by_role("button", name="Remove").click()
    expect(visitor.page.get_by_role("button", name="Choose a file")).to_be_focused()


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ("http://127.0.0.1:1/clip.mp4", "no public address"),
        ("http://localhost/picture.png", "no public address"),
        ("data:video/mp4;base64,AAAA", "cannot be read as a video"),
    ],
)
def test_a_link_that_may_not_be_read_is_refused_in_words(visitor: Visitor, link: str, told: str) -> None:
    visitor.expected.append(refused(400))
    visitor.page.get_by_label("or paste a link").fill(link)
    visitor.page.get_by_role("button", name="Open").click()
    expect(visitor.page.locator("#medium").get_by_role("alert")).to_contain_text(told, timeout=20_000)


@pytest.mark.parametrize(
    ("link", "told"), [("", "It should begin with http://"), ("javascript:alert(1)", "This is not a link to a video")]
)
def test_what_is_no_link_is_not_sent(visitor: Visitor, link: str, told: str) -> None:
    visitor.page.get_by_label("or paste a link").fill(link)
    visitor.page.get_by_role("button", name="Open").click()
    trouble(visitor, told)
    expect(visitor.page.get_by_role("heading", name="Ask a video.")).to_be_visible()


def test_a_prompt_that_does_not_fit_is_told_and_can_be_asked_otherwise(visitor: Visitor, demo_clip: Path) -> None:
    visitor.expected.append(refused(400))
    visitor.choose(demo_clip)
    visitor.ask("word " * 9000)
    expect(visitor.turns.last.get_by_role("alert")).to_contain_text("tokens")
    assert "right" in visitor.ask("Which way does the shape move?").lower()


def test_fewer_frames_than_asked_for_are_told(visitor: Visitor, demo_clip: Path) -> None:
    visitor.page.evaluate("localStorage.setItem('videolm.settings', JSON.stringify({ frames: 60 }))")
    visitor.page.reload()
    visitor.choose(demo_clip)
    expect(visitor.page.get_by_role("list", name="Warnings").get_by_role("listitem")).to_have_count(1)
    expect(visitor.page.get_by_role("list", name="Warnings")).to_contain_text("45")
    expect(visitor.frames).to_have_count(45)


def test_a_server_that_is_gone_is_told(visit: Visit, serve: Serve, demo_clip: Path) -> None:
    running = serve()
    visitor = visit(running).go().choose(demo_clip)
    visitor.expected.append("ERR_CONNECTION_REFUSED")
    running.end()
    for _ in range(200):
        if running.server.should_exit and not running.server.started:
            break
        time.sleep(0.01)
    visitor.ask("Hello?")
    trouble(visitor, "cannot be reached")


def test_an_error_in_the_middle_of_an_answer_is_told(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    answer_with(visitor, chunk("The red"), {"error": {"message": "The engine failed.", "type": "server_error"}})
    assert visitor.ask("What is it?") == "The red"
    trouble(visitor, "The engine failed.")


def test_an_answer_that_breaks_off_is_told(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    answer_with(visitor, chunk("The red"))
    assert visitor.ask("What is it?") == "The red"
    trouble(visitor, "broke off")
    assert visitor.ask("Which way does the shape move?")


def test_hostile_text_stays_text_wherever_it_comes_from(visitor: Visitor, demo_clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(3)>.mp4"
    path.write_bytes(demo_clip.read_bytes())
    visitor.page.on("dialog", lambda dialog: visitor.complaints.append(f"alert {dialog.message}"))
    visitor.choose(path)
    answer_with(visitor, chunk(HOSTILE[:20]), chunk(HOSTILE[20:]), "[DONE]")
    assert visitor.ask(HOSTILE) == HOSTILE
    assert visitor.page.locator("#turns").locator("img, script, a").count() == 0
    answer_with(visitor, {"error": {"message": HOSTILE, "type": "server_error"}})
    visitor.ask("Again?")
    expect(visitor.turns.last.get_by_role("alert")).to_have_text(HOSTILE)
    assert visitor.page.title() == "videolm"


def test_the_key_is_asked_for_and_sent(visit: Visit, serve: Serve, demo_clip: Path, shots: Path) -> None:
    visitor = visit(serve(api_key="secret-1"))
    visitor.expected.append(refused(401))
    visitor.go()
    dialog = visitor.page.get_by_role("dialog", name="This server asks for a key")
    expect(dialog.get_by_label("API key")).to_be_focused()
    visitor.page.screenshot(path=shots / "key.png")
    visitor.page.keyboard.type("wrong")
    visitor.page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The server did not take this key. Check it and try again.")
    visitor.page.keyboard.type("secret-1")
    visitor.page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert "right" in visitor.choose(demo_clip).ask("Which way does the shape move?").lower()
    visitor.page.reload()
    visitor.choose(demo_clip)
    assert visitor.page.evaluate("JSON.stringify(localStorage)").count("secret-1") == 0


def test_without_a_key_the_page_says_what_is_missing(visit: Visit, serve: Serve) -> None:
    visitor = visit(serve(api_key="secret-1"))
    visitor.expected.append(refused(401))
    visitor.go().page.get_by_role("button", name="Not now").click()
    trouble(visitor, "answers only with an API key")
    visitor.page.get_by_role("button", name="Try again").click()
    expect(visitor.page.get_by_label("API key")).to_be_focused()


def test_no_copied_question_holds_the_key(visit: Visit, serve: Serve, demo_clip: Path) -> None:
    visitor = visit(serve(api_key="secret-1"), permissions=["clipboard-read", "clipboard-write"])
    visitor.expected.append(refused(401))
    visitor.go().page.get_by_label("API key").fill("secret-1")
    visitor.page.keyboard.press("Enter")
    visitor.choose(demo_clip).ask("Which way does the shape move?")
    for name in ("Copy as curl", "Copy as Python"):
        visitor.page.get_by_role("button", name=name).click()
        expect(visitor.page.get_by_role("button", name="Copied").first).to_be_visible()
        copied = visitor.page.evaluate("navigator.clipboard.readText()")
        assert "VIDEOLM_API_KEY" in copied
        assert "secret-1" not in copied

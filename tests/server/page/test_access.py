"""The page for everybody: by keyboard alone, by ear, in the dark, on a phone, without motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import PHONE, Visit, Visitor

NAMED_ROLES = {
    "button",
    "textbox",
    "spinbutton",
    "link",
    "image",
    "listbox",
    "option",
    "dialog",
    "log",
    "region",
    "article",
}
FOCUSED = """
() => {
  const element = document.activeElement;
  const label = element.labels?.[0]?.textContent;
  return (element.getAttribute("aria-label") ?? label ?? element.textContent).trim();
}
"""
CONTRASTS = """
() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * light(r / 255) + 0.7152 * light(g / 255) + 0.0722 * light(b / 255);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = numbers(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility() || element.matches("noscript, noscript *")) continue;
    const [one, other] = [numbers(getComputedStyle(element).color), behind(element)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([contrast, element.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""
SMALL_TARGETS = """
() => [...document.querySelectorAll("button, input, textarea, [role=option]")]
  .filter((element) => element.checkVisibility() && !element.matches(".unseen"))
  .map((element) => [element.getBoundingClientRect(), element])
  .filter(([box]) => box.width < 24 || box.height < 24)
  .map(([, element]) => element.outerHTML.slice(0, 80))
"""
TABLE = "| time | " + "place | " * 20 + "\\n|---|" + "---|" * 20
MARKDOWN_ANSWER = f"# Seen\\n\\nA **red** circle, `fast`:\\n\\n- left\\n- right\\n\\n{TABLE}"
LONG_WORD = "x" * 300


def tab_to(visitor: Visitor, name: str, *, key: str = "Tab") -> list[str]:
    """Press Tab until something of that name has the focus; the names on the way there."""
    passed = []
    for _ in range(30):
        visitor.page.keyboard.press(key)
        passed.append(visitor.page.evaluate(FOCUSED))
        if passed[-1] == name:
            return passed
    pytest.fail(f"{name} is not reached: {passed}")


def nodes(visitor: Visitor) -> Iterator[dict[str, Any]]:
    """What a screen reader is told of the page."""
    session = visitor.page.context.new_cdp_session(visitor.page)
    for node in session.send("Accessibility.getFullAXTree")["nodes"]:
        if not node["ignored"]:
            yield {"role": node["role"]["value"], "name": node.get("name", {}).get("value", "").strip()}


def show_everything(visitor: Visitor, clip: Path) -> None:
    """Bring the page to where most of it can be seen: a strip, an answer, an error."""
    visitor.choose(clip)
    visitor.ask("Which way does the shape move?")
    events = f'data: {{"choices": [{{"delta": {{"content": "{MARKDOWN_ANSWER}\\n\\n{LONG_WORD}"}}}}]}}\n\n'
    error = f'data: {{"error": {{"message": "It failed. {LONG_WORD}"}}}}\n\n'
    visitor.page.route("**/v1/chat/completions", lambda route: route.fulfill(status=200, body=events + error), times=1)
    visitor.ask(f"And {LONG_WORD}?")


def test_a_whole_conversation_by_keyboard(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("videolm-mini")).to_be_visible()
    assert tab_to(visitor, "Try the sample clip") == [
        "Skip to the content",
        "Dark colours",
        "Settings",
        "Choose a file",
        "or paste a link",
        "Open",
        "Try the sample clip",
    ]
    visitor.page.keyboard.press("Enter")
    expect(visitor.question).to_be_focused(timeout=20_000)
    visitor.page.keyboard.type("Which way does the shape move?")
    visitor.page.keyboard.press("Shift+Enter")
    assert visitor.question.input_value().endswith("?\n")
    visitor.page.keyboard.press("Enter")
    expect(visitor.turns).to_have_count(1)
    assert "right" in visitor.answer().lower()
    tab_to(visitor, "Retry", key="Shift+Tab")
    visitor.page.keyboard.press("Enter")
    assert "right" in visitor.answer().lower()
    expect(visitor.question).to_be_focused()
    tab_to(visitor, "Remove", key="Shift+Tab")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("button", name="Choose a file")).to_be_focused()


def test_arrows_walk_along_the_strip_and_the_clip_follows(visitor: Visitor, demo_clip: Path) -> None:
    visitor.choose(demo_clip)
    visitor.frames.first.focus()
    times = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowRight", "Home"):
        visitor.page.keyboard.press(key)
        times.append(visitor.page.locator("video").evaluate("(video) => video.currentTime"))
        expect(visitor.page.get_by_role("option", selected=True)).to_be_focused()
    assert times == pytest.approx([0.4, 0.8, 0.4, 2.9333, 2.9333, 0.0], abs=1e-3)
    assert visitor.frames.evaluate_all("(all) => all.map((option) => option.tabIndex)") == [0, *[-1] * 7]


def test_settings_take_the_focus_and_give_it_back(visitor: Visitor) -> None:
    button = visitor.page.get_by_role("button", name="Settings")
    button.click()
    expect(visitor.page.get_by_label("Frames of a video")).to_be_focused()
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.get_by_role("dialog")).to_be_hidden()
    expect(button).to_be_focused()


def test_everything_has_a_name(visitor: Visitor, demo_clip: Path) -> None:
    assert [node for node in nodes(visitor) if node["role"] in NAMED_ROLES and not node["name"]] == []
    show_everything(visitor, demo_clip)
    seen = list(nodes(visitor))
    assert [node for node in seen if node["role"] in NAMED_ROLES and not node["name"]] == []
    assert {"banner", "main", "log", "listbox", "article", "status", "alert", "table"} <= {
        node["role"] for node in seen
    }
    visitor.page.get_by_role("button", name="Settings").click()
    assert [node for node in nodes(visitor) if node["role"] in NAMED_ROLES and not node["name"]] == []


def test_what_happens_is_said(visitor: Visitor, demo_clip: Path) -> None:
    status = visitor.page.get_by_role("status")
    visitor.choose(demo_clip)
    expect(status).to_have_text("Ready: 8 frames, 128 visual tokens. Ask your question.")
    visitor.ask("Which way does the shape move?")
    expect(status).to_have_text("The answer is complete.")
    expect(visitor.page.get_by_role("log", name="Conversation")).to_have_attribute("aria-live", "polite")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable(visit: Visit, demo_clip: Path, shots: Path, scheme: str) -> None:
    visitor = visit(color_scheme=scheme).go()
    expect(visitor.page.get_by_text("videolm-mini")).to_be_visible()
    visitor.page.screenshot(path=shots / f"welcome-{scheme}.png")
    assert [each for each in visitor.page.evaluate(CONTRASTS) if each[0] < 4.5] == []
    show_everything(visitor, demo_clip)
    contrasts = visitor.page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [each for each in contrasts if each[0] < 4.5] == []
    visitor.page.screenshot(path=shots / f"everything-{scheme}.png")


def test_the_switch_turns_the_colours_and_is_remembered(visit: Visit) -> None:
    visitor = visit(color_scheme="dark").go()
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = visitor.page.evaluate(paper)
    switch = visitor.page.get_by_role("button", name="Dark colours")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    light = visitor.page.evaluate(paper)
    assert (dark, light) == ("rgb(19, 21, 22)", "rgb(250, 249, 246)")
    visitor.page.reload()
    assert visitor.page.evaluate(paper) == light


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_no_width_scrolls_sideways(visit: Visit, demo_clip: Path, width: int) -> None:
    visitor = visit(viewport=PHONE | {"width": width}, has_touch=width < 500).go()
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert visitor.page.evaluate(overflow) == 0
    assert visitor.page.evaluate(SMALL_TARGETS) == []
    show_everything(visitor, demo_clip)
    assert visitor.page.evaluate(overflow) == 0
    assert visitor.page.evaluate(SMALL_TARGETS) == []
    visitor.page.get_by_role("button", name="Settings").click()
    assert visitor.page.evaluate(overflow) == 0


def test_a_phone_has_room_for_all_of_it(visit: Visit, demo_clip: Path, shots: Path) -> None:
    visitor = visit(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2).go()
    visitor.page.screenshot(path=shots / "phone-welcome.png")
    visitor.choose(demo_clip)
    # The keyboard of a phone would cover what has just come.
    expect(visitor.question).not_to_be_focused()
    expect(visitor.question).to_be_in_viewport()
    expect(visitor.frames.first).to_be_in_viewport()
    visitor.page.screenshot(path=shots / "phone-strip.png")
    visitor.ask("Which way does the shape move?")
    expect(visitor.turns.last.get_by_role("list", name="Measured")).to_be_in_viewport()
    visitor.page.screenshot(path=shots / "phone-talk.png")


def test_nothing_moves_for_those_who_asked_for_that(visit: Visit, demo_clip: Path) -> None:
    moving = "document.getAnimations().length"
    still, usual = visit(), visit(reduced_motion="no-preference")
    counts = []
    for visitor in (still, usual):
        visitor.page.route("**/v1/inspect", lambda route: None)
        visitor.go().page.get_by_label("Video or picture").set_input_files(demo_clip)
        expect(visitor.page.get_by_text("Looking at the frames")).to_be_visible(timeout=20_000)
        counts.append(visitor.page.evaluate(moving))
    assert counts[0] == 0
    assert counts[1] > 0

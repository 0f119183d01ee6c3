"""Markdown in the browser: right for what models write, inert and quick for what attackers write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from ..conftest import RunningServer
from .conftest import Visitor, visiting

SHOWN = """
async ([text]) => {
  const { showMarkdown } = await import("/static/markdown.js");
  const target = document.createElement("div");
  document.body.append(target);
  const start = performance.now();
  showMarkdown(target, text);
  const elements = [...target.querySelectorAll("*")];
  const depth = (node) => (node === target ? 0 : 1 + depth(node.parentNode));
  const shown = {
    html: target.innerHTML,
    text: target.textContent,
    tags: [...new Set(elements.map((element) => element.tagName.toLowerCase()))].sort(),
    attributes: [...new Set(elements.flatMap((element) => element.getAttributeNames()))].sort(),
    links: elements.filter((element) => element.href).map((element) => element.href),
    depth: Math.max(0, ...elements.map(depth)),
    took_s: (performance.now() - start) / 1000,
  };
  target.remove();
  return shown;
}
"""
TAGS = {
    *("p", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "hr", "div"),
    *("strong", "em", "del", "a", "br", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"href", "target", "rel", "start", "data-language", "tabindex", "role", "aria-label", "class"}
LINK = 'target="_blank" rel="noopener noreferrer nofollow"'


def shown(visitor: Visitor, text: str) -> dict[str, Any]:
    return visitor.page.evaluate(SHOWN, [text])


@pytest.fixture(scope="module")
def visitor(browser: Browser, server: RunningServer) -> Iterator[Visitor]:
    """One for all tests: they leave the page as it was."""
    with visiting(browser, server.url) as visitor:
        yield visitor.go()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "<p>plain</p>"),
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("**bold**, *slanted*, ~~gone~~", "<p><strong>bold</strong>, <em>slanted</em>, <del>gone</del></p>"),
        ("***both***", "<p><strong><em>both</em></strong></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("__init__ and _this_", "<p><strong>init</strong> and <em>this</em></p>"),
        ("**open and *open", "<p>**open and *open</p>"),
        ("*a **b* c", "<p><em>a **b</em> c</p>"),
        (r"\*kept\* \\", r"<p>*kept* \</p>"),
        ("`a*b*` and ``c`d``", "<p><code>a*b*</code> and <code>c`d</code></p>"),
        ("`open", "<p>`open</p>"),
        ("# One\n### Three ###\n####### no", "<h4>One</h4><h6>Three</h6><p>####### no</p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b\n\nend", '<ol start="3"><li>a</li><li>b</li></ol><p>end</p>'),
        ("1. a\n\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("see https://a.example/x?y=1&z=2.", f'<p>see <a href="https://a.example/x?y=1&amp;z=2" {LINK}>https://a.example/x?y=1&amp;z=2</a>.</p>'),
        ("[b](https://a.example/(x))", f'<p><a href="https://a.example/(x)" {LINK}>b</a></p>'),
        ("| a | b |\n|---|:-:|\n| 1 | **2** | 3 |\n| 4 |", None),
        ("```py\nx = '<b>'\n\n# y\n```\nz", None),
    ],
)  # fmt: skip
def test_what_models_write(visitor: Visitor, text: str, html: str | None) -> None:
    expected = html or OTHERS[text[:3]]
    assert shown(visitor, text)["html"] == expected


OTHERS = {
    "| a": (
        '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>'
        "<thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td><strong>2</strong></td></tr><tr><td>4</td><td></td></tr></tbody></table></div>"
    ),
    "```": (
        '<pre tabindex="0" role="region" aria-label="Code, py"><code data-language="py">'
        "x = '&lt;b&gt;'\n\n# y</code></pre><p>z</p>"
    ),
}


@pytest.mark.parametrize(
    "text",
    [
        "<script>document.title = 'taken'</script>",
        "<img src=x onerror=\"document.title = 'taken'\">",
        "<svg onload=\"document.title='taken'\"><style>*{display:none}</style>",
        "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe>",
        "[x](javascript:document.title='taken')",
        "[x](JaVaScRiPt:document.title='taken')",
        "[x](\x01javascript:document.title=1)",
        "[x](java\tscript:document.title=1)",
        "[x](&#106;avascript:document.title=1)",
        "[x](data:text/html,<script>parent.document.title=1</script>)",
        "[x](vbscript:x) [x](file:///etc/passwd) [x](blob:https://a.example/1)",
        "[x](//evil.example/) [x](/v1/files) [x](#main)",
        '[x](https://a.example/"onmouseover="document.title=1)',
        "<javascript:document.title=1> <https://a.example/><b>",
        "```html\n<script>document.title=1</script>\n</code></pre><script>document.title=1</script>\n```",
        "| <script>document.title=1</script> |\n|---|\n| <img src=x onerror=document.title=1> |",
        "- <b>\n  > <i>\n\n# <u>\n\n**<script>**",
        "&lt;script&gt; &amp; &#60;",
    ],
)
def test_hostile_text_is_only_text(visitor: Visitor, text: str) -> None:
    title = visitor.page.title()
    result = shown(visitor, text)
    assert set(result["tags"]) <= TAGS
    assert set(result["attributes"]) <= ATTRIBUTES
    assert [link for link in result["links"] if not link.startswith("https://a.example/")] == []
    assert result["text"].count("<") == text.count("<")
    assert visitor.page.title() == title


def test_the_language_of_code_is_one_word(visitor: Visitor) -> None:
    result = shown(visitor, '```"><script>document.title=1</script>\nx\n```')
    assert 'data-language="script"' in result["html"]
    assert (result["tags"], result["text"]) == (["code", "pre"], "x")


def test_a_picture_from_elsewhere_is_not_fetched(visitor: Visitor) -> None:
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    result = shown(visitor, "![who reads this](https://a.example/pixel.png)")
    assert result["html"] == f'<p><a href="https://a.example/pixel.png" {LINK}>who reads this</a></p>'
    assert [url for url in asked if "a.example" in url] == []


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "*",
            "**",
            "*a",
            "_a",
            "**a_",
            "~~a",
            "a*b",
            "* * ",
            "*a **b ~~c _d ",
            "`",
            "`a",
            "``a`",
            "\\",
            "h",
            "https://",
        ),
        *(
            "[",
            "![",
            "[a](",
            "[a]((",
            "](b)",
            "[a](x ",
            "https://a ",
            "|",
            "|a",
            "a|b\n-|-\n",
            "#",
            "# # ",
            "```a",
            "```\n",
        ),
        *(">", "> ", "-", "- ", "  - ", "- a\n\n", "1.", "1. ", " ", "\t", "\n", "a\n"),
    ],
)
def test_long_hostile_text_takes_no_time_and_no_depth(visitor: Visitor, unit: str) -> None:
    result = shown(visitor, unit * (50_000 // len(unit)))
    assert result["took_s"] < 2
    assert result["depth"] < 60


def test_a_fence_before_many_spaces_takes_no_time(visitor: Visitor) -> None:
    result = shown(visitor, "```" + " " * 50_000 + "`\n" + "-" * 50_000 + "|x\n#" + " #" * 50_000 + "x")
    assert result["took_s"] < 2


def test_an_answer_that_grows_looks_as_if_it_came_at_once(visitor: Visitor) -> None:
    text = "# A\n\nsome **bold\ntext** and `code\n\n1. a\n2. b\n   - c\n\n| x | y |\n|---|---|\n| 1 | *2* |\n\n"
    text += "```\nz\n```\nend"
    grown = visitor.page.evaluate(
        """async (text) => {
          const { showMarkdown } = await import("/static/markdown.js");
          const target = document.createElement("div");
          const different = [];
          for (let end = 0; end <= text.length; end += 1) {
            const fresh = document.createElement("div");
            showMarkdown(target, text.slice(0, end));
            showMarkdown(fresh, text.slice(0, end));
            if (target.innerHTML !== fresh.innerHTML) different.push(end);
          }
          const kept = target.firstElementChild;
          showMarkdown(target, text + " more");
          return { different, isKept: kept === target.firstElementChild };
        }""",
        text,
    )
    assert grown == {"different": [], "isKept": True}

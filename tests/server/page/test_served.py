"""What the page is served as: few headers that let nothing in, and files that need nothing from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from ..conftest import RunningServer, Serve

STATIC = Path(str(files("videolm"))) / "server" / "static"
NAMES = sorted(path.name for path in STATIC.iterdir())
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "blob:",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def path_of(name: str) -> str:
    return "/" if name == "index.html" else f"/static/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_served_as_what_it_is_and_lets_nothing_in(server: RunningServer, name: str) -> None:
    with server.http() as http:
        answer = http.get(path_of(name))
    assert answer.status_code == 200
    assert answer.content == (STATIC / name).read_bytes()
    assert answer.headers["content-type"] == CONTENT_TYPES[name.partition(".")[2]]
    assert dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


def test_what_is_unchanged_is_not_sent_again(server: RunningServer) -> None:
    with server.http() as http:
        first = http.get("/")
        again = http.get("/", headers={"if-none-match": first.headers["etag"]})
        weak = http.get("/", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
        other = http.get("/", headers={"if-none-match": '"other"'})
        head = http.head("/")
    assert [(answer.status_code, len(answer.content)) for answer in (again, weak)] == [(304, 0), (304, 0)]
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.content) == (200, first.content)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(first.content)))


def test_the_sample_is_the_bundled_clip(server: RunningServer, demo_clip: Path) -> None:
    with server.http() as http:
        answer = http.get("/static/sample.mp4")
    assert (answer.headers["content-type"], answer.content) == ("video/mp4", demo_clip.read_bytes())


@pytest.mark.parametrize(
    "path", ["/static/", "/static/none.js", "/static/../page.py", "/static/%2e%2e/page.py", "/page"]
)
def test_nothing_else_is_served(server: RunningServer, path: str) -> None:
    with server.http() as http:
        answer = http.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_page_needs_no_key(serve: Serve) -> None:
    with serve(api_key="secret").http() as http:
        assert {http.get(path_of(name)).status_code for name in NAMES} == {200}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "icon.svg"])
def test_a_file_brings_nothing_from_elsewhere_and_writes_no_html(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href|from|import|url)\s*[=(]?\s*["']?(?:https?:)?//""", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) == []
    if name.endswith(".html"):
        assert re.findall(r"""\sstyle=|\son\w+=|<style|<script>|<script(?! [^>]*src=)""", text) == []
    assert text.count("\n") < 300

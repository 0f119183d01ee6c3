"""Progress bars: on a terminal and after a while, else not at all."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from videolm.cli import progress
from videolm.cli.progress import progress_bar
from videolm.cli.sessions import show_downloads


class Terminal(io.StringIO):
    """Standard error as a person sees it."""

    def isatty(self) -> bool:
        return True


def count_to_three() -> None:
    with progress_bar("Counting", unit=" things") as update:
        for done in range(1, 4):
            update(done, 3)


def test_nothing_is_shown_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    count_to_three()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("delay_s", "is_shown"), [(progress.DELAY_S, False), (0, True)])
def test_a_terminal_has_a_bar_for_what_takes_long(
    delay_s: float, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    # Not in a fixture: pytest puts its own stream back between setting up and the test.
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "DELAY_S", delay_s)
    count_to_three()
    assert ("Counting" in screen.getvalue()) == is_shown


def test_a_session_reports_downloads_while_they_are_shown() -> None:
    class Downloading:
        on_download: Any = None

    session = Downloading()
    with show_downloads(session):  # type: ignore[arg-type]
        session.on_download(10, None)
    assert session.on_download is None


def test_a_download_is_reported(tiny_model_folder: Path, picture: Path) -> None:
    import http.server
    import threading
    from functools import partial

    import videolm

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(picture.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    session = videolm.load(tiny_model_folder)
    calls: list[tuple[int, int | None]] = []
    session.on_download = lambda done, total: calls.append((done, total))
    session.inspect(f"http://127.0.0.1:{server.server_port}/{picture.name}", allow_private_hosts=True)
    server.shutdown()
    server.server_close()
    thread.join()
    size = picture.stat().st_size
    assert calls[-1] == (size, size)

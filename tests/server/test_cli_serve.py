"""``videolm serve`` as a process: one line when it is ready, flags for every setting, a good end by a signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from videolm.cli import serve
from videolm.cli.main import main
from videolm.cli.parser import Parser
from videolm.errors import MissingExtraError
from videolm.media.limits import MediaLimits
from videolm.server.settings import MEDIA, ServerSettings

from .asking import LONG as SHORTER
from .asking import MODEL, PATH

LONG: dict[str, Any] = SHORTER | {"max_tokens": 3000}
Captured = pytest.CaptureFixture[str]


def settings_of(*words: str) -> ServerSettings:
    parser = Parser("videolm serve", usage="", description="")
    serve.add_arguments(parser)
    return serve.settings_of(parser.parse(words))


@contextmanager
def serving(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the address that it tells."""
    command = [sys.executable, "-m", "videolm.cli.main", "serve", "--port", "0", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"{MODEL} answers at http://127.0.0.1:"), process.communicate(timeout=10)
            yield process, line.split()[-1]
        finally:
            process.kill()


def test_the_defaults_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve.KEY_VARIABLE, raising=False)
    assert settings_of() == ServerSettings()


def test_every_setting_has_a_flag() -> None:
    flags = {flag.field for flag in serve.SETTINGS} | {field for _, field, _ in serve.SWITCHES} | {"cors_origins"}
    assert flags == {field.name for field in fields(ServerSettings)} - {"media"}
    limits = {flag.field for flag in serve.LIMITS}
    # A switch and the time for decoding are settings of the server.
    assert limits == {field.name for field in fields(MediaLimits)} - {"allow_private_hosts", "max_decode_s"}


def test_flags_set_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve.KEY_VARIABLE, raising=False)
    settings = settings_of(
        *("--host", "::1", "--port", "81", "--api-key", "k", "--max-queue", "0", "--max-running", "3"),
        *("--allowed-media-root", str(tmp_path), "--no-remote-media", "--max-pixels", "9", "--max-frames", "4"),
        *("--cors-origin", "https://a.example", "--cors-origin", "https://b.example", "--keepalive", "1.5"),
    )
    assert settings == ServerSettings(
        host="::1",
        port=81,
        api_key="k",
        max_queue=0,
        max_running=3,
        allowed_media_root=tmp_path,
        no_remote_media=True,
        media=replace(MEDIA, max_pixels=9, max_frames=4),
        cors_origins=("https://a.example", "https://b.example"),
        keepalive_s=1.5,
    )


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.KEY_VARIABLE, "from-outside")
    assert settings_of().api_key == "from-outside"
    assert settings_of("--api-key", "given").api_key == "given"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port is 70000: expected a whole number from 0 to 65535."),
        (["--max-queue", "-1"], "--max-queue is -1: expected a whole number of at least 0."),
        (["--shutdown-timeout", "30"], "--shutdown-timeout is 30.0: expected a number"),
        (["--request-timeout", "0"], "--request-timeout is 0.0: expected a number above 0."),
        (["--max-pixels", "0"], "--max-pixels is 0. Expected a number above 0."),
        (["--allowed-media-root", "/nowhere"], "--allowed-media-root is /nowhere, which is no folder"),
        (["--api-key", "two words"], "The API key is empty, or holds spaces"),
        (
            ["--cors-origin", "*", "--cors-origin", "https://a.example/"],
            "--cors-origin holds 'https://a.example/', which",
        ),
        (["--cors-origin", "a.example"], "--cors-origin holds 'a.example', which no browser sends"),
        (["--cors-origin", "HTTPS://A.example"], "--cors-origin holds 'HTTPS://A.example', which no browser sends"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid:8000 cannot be listened at"),
    ],
)
def test_impossible_settings_are_refused_before_the_model_is_loaded(
    words: list[str], message: str, capsys: Captured
) -> None:
    assert main(["serve", "--model", "nowhere", *words]) == 1
    assert capsys.readouterr().err.startswith(f"videolm: {message}")


def test_origins_are_what_browsers_send() -> None:
    origins = ("*", "null", "https://a.example", "http://localhost:3000", "http://[::1]:80", "chrome-extension://abc")
    assert ServerSettings(cors_origins=origins).cors_origins == origins


def test_a_port_in_use_is_told(capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"videolm: 127.0.0.1:{port} cannot be listened at (")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(serve, "PACKAGES", ("starlette", "no_such_package"))
    assert main(["serve"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("videolm: The server needs no_such_package, which is not installed")
    assert "pip install 'videolm[serve]'" in message
    assert issubclass(MissingExtraError, ImportError)


def test_nothing_of_the_extra_is_imported_elsewhere() -> None:
    code = (
        "import sys; import videolm, videolm.session, videolm.cli.ask; from videolm.cli.main import main; "
        "main(['serve', '--help']); "
        "extra = {'starlette', 'uvicorn', 'msgspec', 'python_multipart', 'prometheus_client', 'llguidance'}; "
        "assert not extra & set(sys.modules), extra & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_under_load_ends_it_well(
    number: signal.Signals, clip_part: dict[str, Any], eventually: Callable[..., None]
) -> None:
    answers: list[httpx2.Response] = []
    with serving("--shutdown-timeout", "2", VIDEOLM_API_KEY="secret") as (process, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client:
            content: Any = [clip_part, {"type": "text", "text": "Describe the clip."}]
            message: Any = {"role": "user", "content": content}
            stream = client.chat.completions.create(model=MODEL, messages=[message], stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).startswith("A red circle")
        key = {"authorization": "Bearer secret"}

        def ask(body: dict[str, Any]) -> None:
            answers.append(httpx2.post(url + PATH, json=body, headers=key, timeout=60))

        bodies = [LONG | {"stream": index % 2 == 0} for index in range(8)]
        threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        eventually(lambda: "videolm_requests_running 8.0" in httpx2.get(url + "/metrics", headers=key).text)
        process.send_signal(number)
        start = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - start < 20
        for thread in threads:
            thread.join(5)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert len(answers) == 8
    for answer in answers:
        whole = answer.status_code == 200 and (answer.text.endswith("data: [DONE]\n\n") or answer.json()["choices"])
        assert whole or answer.json()["error"]["code"] == "shutting_down"


@pytest.mark.slow
def test_clients_that_are_stuck_do_not_hold_the_end_up(eventually: Callable[..., None]) -> None:
    body = json.dumps(LONG | {"stream": True, "logprobs": True, "top_logprobs": 20, "n": 8}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
    form = "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 999"
    stuck = [
        f"{head}{len(body)}\r\n\r\n".encode() + body,  # Its answer is never read.
        f"{head}1000\r\n\r\n{{".encode(),
        form.encode() + b'\r\n\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        head.encode(),
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"",
    ]
    with serving("--shutdown-timeout", "2") as (process, url), ExitStack() as stack:
        for sent in stuck:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            connection = stack.enter_context(socket.create_connection(address, timeout=20))
            connection.sendall(sent)
        eventually(lambda: "videolm_requests_running 8.0" in httpx2.get(url + "/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""

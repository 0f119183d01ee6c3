"""``videolm serve``: a model on the network, with an OpenAI-compatible API and a page, until it is told to end."""

from __future__ import annotations

import importlib.util
import os
from argparse import ArgumentParser, Namespace
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videolm.cli import flags
from videolm.cli.output import print_warnings
from videolm.cli.sessions import open_session
from videolm.errors import ArgumentError, MissingExtraError
from videolm.freed_memory import keep_one_heap
from videolm.server.limits import FLAGS
from videolm.server.settings import MEDIA, ServerSettings

if TYPE_CHECKING:
    from socket import socket

    from videolm.session import Session

USAGE = "[options]"
DESCRIPTION = (
    "Answer questions about videos and pictures over the network: an OpenAI-compatible API at /v1, and a page at /.\n"
    "One line on standard output tells the address once requests are taken; SIGTERM or Ctrl-C ends the server."
)
KEY_VARIABLE = "VIDEOLM_API_KEY"
PACKAGES = ("starlette", "uvicorn", "msgspec", "python_multipart", "prometheus_client")

__all__ = ["DESCRIPTION", "USAGE", "add_arguments", "run", "settings_of"]


@dataclass(frozen=True)
class _Flag:
    """A flag that sets one field."""

    name: str
    field: str
    type: type
    metavar: str
    help: str


SETTINGS = (
    _Flag("--host", "host", str, "ADDRESS", "listen at this address"),
    _Flag("--port", "port", int, "N", "listen at this port; 0 for any that is free"),
    _Flag("--api-key", "api_key", str, "KEY", f"answer only those who send this key; also {KEY_VARIABLE}"),
    _Flag("--max-running", "max_running", int, "N", "generate at most N answers at once; further ones wait"),
    _Flag("--max-queue", "max_queue", int, "N", "let at most N answers wait; further ones are refused"),
    _Flag("--cache-bytes", "cache_bytes", int, "N", "memory for keys and values; left out, a quarter of what is free"),
    _Flag("--feature-bytes", "feature_bytes", int, "N", "most memory for encoded pictures and videos"),
    _Flag("--request-timeout", "request_timeout_s", float, "S", "give an answer up after S seconds"),
    _Flag(
        "--shutdown-timeout", "shutdown_timeout_s", float, "S", "let running answers end within S seconds at the end"
    ),
    _Flag("--body-timeout", "body_timeout_s", float, "S", "expect headers and body of a request within S seconds"),
    _Flag("--keepalive", "keepalive_s", float, "S", "say in a silent stream every S seconds that it is alive"),
    _Flag("--max-body-bytes", "max_body_bytes", int, "N", "most bytes of a JSON body"),
    _Flag("--max-bodies-bytes", "max_bodies_bytes", int, "N", "most bytes of all unanswered bodies together"),
    _Flag("--max-header-bytes", "max_header_bytes", int, "N", "most bytes of a request's line and headers"),
    _Flag("--max-media", "max_media", int, "N", "most pictures and videos in one request"),
    _Flag("--allowed-media-root", "allowed_media_root", Path, "DIR", "read local files that requests name below DIR"),
    _Flag("--decode-timeout", "decode_timeout_s", float, "S", "give a medium up that decodes for S seconds"),
    _Flag("--decode-workers", "decode_workers", int, "N", "decode media in N processes"),
    _Flag("--files-dir", "files_dir", Path, "DIR", "keep uploads in DIR; left out, in a folder that goes at the end"),
    _Flag("--files-max-bytes", "files_max_bytes", int, "N", "most bytes of all uploads together"),
    _Flag("--files-max-age", "files_max_age_s", float, "S", "remove uploads after S seconds"),
)
LIMITS = (
    _Flag(FLAGS["max_bytes"], "max_bytes", int, "N", "most bytes of one medium in memory or from a URL"),
    _Flag(FLAGS["max_pixels"], "max_pixels", int, "N", "most pixels of a picture or a frame"),
    _Flag(FLAGS["max_duration_s"], "max_duration_s", float, "S", "longest video, in seconds"),
    _Flag(FLAGS["max_frames"], "max_frames", int, "N", "most frames taken from one video"),
    _Flag(FLAGS["timeout_s"], "timeout_s", float, "S", "most seconds for one download"),
    _Flag(FLAGS["max_redirects"], "max_redirects", int, "N", "most redirects followed by one download"),
    _Flag(FLAGS["max_packets"], "max_packets", int, "N", "most packets in a video file, or frames of an animation"),
)
SWITCHES = (
    ("--allow-private-hosts", "allow_private_hosts", "let URLs point into this machine or its private network"),
    ("--no-remote-media", "no_remote_media", "fetch no URLs at all"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    flags.add_model_flags(parser)
    flags.add_cache_flags(parser)
    own = {field.name: field.default for field in fields(ServerSettings)}
    for defaults, group in ((own, SETTINGS), (asdict(MEDIA), LIMITS)):
        for flag in group:
            default = defaults[flag.field]
            told = "" if default is None else f" (default: {default})"
            parser.add_argument(
                flag.name, dest=flag.field, type=flag.type, metavar=flag.metavar, help=f"{flag.help}{told}"
            )
    for name, field, text in SWITCHES:
        parser.add_argument(name, dest=field, action="store_true", default=None, help=text)
    parser.add_argument(
        "--cors-origin",
        dest="cors_origins",
        action="append",
        metavar="ORIGIN",
        help="let pages of this origin ask, such as https://example.org, or * for all; may be given several times",
    )


def run(args: Namespace) -> int:
    """Serve until a signal comes."""
    _check_packages()
    settings = settings_of(args)
    keep_one_heap()
    from videolm.engine.vision_cache import VisionCacheConfig
    from videolm.server.serving import listen

    with listen(settings) as listener:  # Before the weights, which take longer.
        session = open_session(args, cache=VisionCacheConfig(max_bytes=settings.feature_bytes))
        _serve(session, settings, listener)
    return 0


def settings_of(args: Namespace) -> ServerSettings:
    """What the flags and the environment say."""
    names = [flag.field for flag in SETTINGS] + [field for _, field, _ in SWITCHES] + ["cors_origins"]
    given = _given(args, names)
    given.setdefault("api_key", os.environ.get(KEY_VARIABLE))
    given["cors_origins"] = tuple(given.get("cors_origins", ()))
    try:
        return ServerSettings(**given, media=replace(MEDIA, **_given(args, [flag.field for flag in LIMITS])))
    except ArgumentError as error:
        raise ArgumentError(_with_flag(str(error))) from None


def _serve(session: Session, settings: ServerSettings, listener: socket) -> None:
    from videolm.media.worker_pool import DecodePool
    from videolm.processing.pixels import fit_frame
    from videolm.server.app import build_app
    from videolm.server.backend import Backend
    from videolm.server.file_store import FileStore
    from videolm.server.serving import Server, url_of

    def tell() -> None:
        print(f"{session.name} answers at {url_of(listener)}", flush=True)
        if settings.api_key is None and not ip_address(listener.getsockname()[0]).is_loopback:
            print_warnings([f"Whoever reaches {settings.host} may ask: there is no --api-key."])

    assert session.cache is not None
    prepare_frame = partial(fit_frame, settings=session.processor.video_pixels)
    with (
        closing(FileStore(settings)) as files,
        DecodePool(prepare_frame, num_workers=settings.decode_workers, timeout_s=settings.decode_timeout_s) as decoders,
    ):
        backend = Backend.open(session.loaded, settings, cache=session.cache, decoders=decoders, files=files)
        Server(build_app(backend), settings, backend.admission, on_ready=tell).run([listener])


def _check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"The server needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "expected the packages of the extra serve. Run pip install 'videolm[serve]'."
        )


def _with_flag(message: str) -> str:
    """What is wrong with a field, which such messages begin with, in terms of its flag."""
    name, _, rest = message.partition(" ")
    flags = {flag.field: flag.name for flag in (*SETTINGS, *LIMITS)} | {"cors_origins": "--cors-origin"}
    return f"{flags.get(name, name)} {rest}"


def _given(args: Namespace, names: list[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(args, name)) is not None}

"""What a decoder process answers is data that a hostile file may have written."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from videolm.contracts import Frames
from videolm.errors import FetchError, MediaError, MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.worker_answer import read_answer, send_error, send_frames
from videolm.media.worker_wire import MAX_HEADER_BYTES, WireError, receive

PIXELS = tuple(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8))
FRAMES = Frames(
    kind="video",
    pixels=PIXELS,
    source="clip",
    size=(50, 70),
    frame_indices=(0, 3),
    frame_times_s=(0.0, 0.1),
    num_source_frames=4,
    fps=29.97002997002997,
    duration_s=4 / 29.97,
    method="packet-index",
    num_bad_frames=1,
    warnings=("clip is damaged",),
)
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def answer(sock: socket.socket, **limits: Any) -> Any:
    ends = time.monotonic() + 5
    header, _ = receive(sock, ends=ends)
    max_bytes = limits.pop("max_bytes", 1 << 20)
    return read_answer(sock, header, "clip", limits=MediaLimits(**limits), max_bytes=max_bytes, ends=ends)


def say(sock: socket.socket, header: Any) -> None:
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    sock.sendall(struct.pack(">I", len(body)) + body)


def test_frames_arrive_as_they_were(pair: Pair) -> None:
    send_frames(pair[1], FRAMES)
    arrived = answer(pair[0])
    for name in Frames.__dataclass_fields__:
        assert np.array_equal(getattr(arrived, name), getattr(FRAMES, name)), name


def test_frames_that_are_views_arrive_as_they_look(pair: Pair) -> None:
    turned = Frames(kind="image", pixels=(np.rot90(PIXELS[0]),), source="clip", size=(7, 5))
    send_frames(pair[1], turned)
    np.testing.assert_array_equal(answer(pair[0]).pixels[0], np.rot90(PIXELS[0]))


@pytest.mark.parametrize(
    "error",
    [
        MediaLimitError("It is long. Expected less. Cut it.", limit="max_duration_s"),
        FetchError("It is gone. Expected it. Look."),
    ],
)
def test_our_errors_arrive_as_they_were(pair: Pair, error: MediaError) -> None:
    send_error(pair[1], error, "clip")
    arrived = answer(pair[0])
    assert (type(arrived), str(arrived), arrived.limit) == (type(error), str(error), error.limit)


def test_other_errors_are_told_in_one_line(pair: Pair) -> None:
    send_error(pair[1], RuntimeError("a\nb"), "clip")
    arrived = answer(pair[0])
    assert type(arrived) is MediaError
    assert str(arrived) == (
        "clip cannot be decoded (RuntimeError: a\N{REPLACEMENT CHARACTER}b). Expected a whole video or picture. "
        "Check that it was copied whole, or convert it, for example with ffmpeg."
    )


@pytest.mark.parametrize("type_", ["SystemExit", "__doc__", "MissingThing", "annotations"])
def test_an_error_of_no_type_of_ours_is_a_media_error(pair: Pair, type_: str) -> None:
    say(pair[1], {"error": {"type": type_, "message": "two\nlines", "limit": None}})
    arrived = answer(pair[0])
    assert (type(arrived), str(arrived)) == (MediaError, "two lines")


def told(**changes: Any) -> dict[str, Any]:
    fields = {name: getattr(FRAMES, name) for name in Frames.__dataclass_fields__ if name not in ("pixels", "source")}
    del fields["chosen"]
    return {"frames": fields | changes.pop("frames", {}), "shapes": [[5, 7, 3]], **changes}


@pytest.mark.parametrize(
    "header",
    [
        b"no JSON",
        b"[]",
        b"[" * 100_000,
        {},
        {"error": {}},
        {"error": "x"},
        told(shapes=[[5, 7]]),
        told(shapes=[[5, 7, 4]]),
        told(shapes=[[-5, -7, 3]]),
        told(shapes=[[1 << 20, 1 << 20, 3]]),
        told(shapes=[[1, 1, 3]] * 9),
        told(shapes=7),
        told(frames={"kind": "sound"}),
        told(frames={"kind": ["video"]}),
        told(frames={"size": [1]}),
        told(frames={"size": [float("inf"), 1]}),
        told(frames={"fps": "fast"}),
        told(frames={"frame_indices": [None]}),
        told(frames={"source": "another"}),
    ],
)
def test_an_answer_that_is_none_is_refused(pair: Pair, header: Any) -> None:
    say(pair[1], header)
    with pytest.raises(WireError):
        answer(pair[0], max_frames=8)


def test_a_header_without_end_is_refused_before_it_is_read(pair: Pair) -> None:
    pair[1].sendall(struct.pack(">I", MAX_HEADER_BYTES + 1))
    with pytest.raises(WireError, match=f"{MAX_HEADER_BYTES + 1} bytes"):
        answer(pair[0])


def test_pixels_that_do_not_come_end_by_the_deadline(pair: Pair) -> None:
    say(pair[1], told())
    header, _ = receive(pair[0])
    with pytest.raises(TimeoutError):
        read_answer(pair[0], header, "clip", limits=MediaLimits(), max_bytes=1 << 20, ends=time.monotonic() + 0.05)


def test_an_answer_that_breaks_off_is_refused(pair: Pair) -> None:
    say(pair[1], told())
    pair[1].sendall(b"123")
    pair[1].close()
    with pytest.raises(WireError, match="gone"):
        answer(pair[0])

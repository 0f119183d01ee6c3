"""``POST /v1/inspect``: the same as ``videolm inspect`` tells and draws, and refusals by name."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videolm.media.limits import MediaLimits
from videolm.processing.contact_sheet import contact_sheet, describe
from videolm.session import Session

PATH = "/v1/inspect"


def picture_of(url: str, kind: str) -> np.ndarray:
    head, _, data = url.partition(",")
    assert head == f"data:image/{kind};base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == kind.upper()
    return np.asarray(image.convert("RGB"))


def error_of(response: Any, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return response.json()["error"]


@pytest.fixture(scope="module")
def http(server: Any) -> Any:
    with server.http() as http:
        yield http


def test_a_video_is_shown_as_the_command_line_shows_it(
    http: Any, session: Session, demo_clip: Path, clip_part: dict[str, Any]
) -> None:
    told = http.post(PATH, json={"content": [clip_part]}).json()
    source = "data:video/mp4;base64 URI"
    seen = [(replace(frames, source=source), visual) for frames, visual in session.inspect(demo_clip)]
    expected = describe(seen, session.processor)
    (facts,) = told["media"]
    frames = facts.pop("frames")
    assert facts == expected["media"][0]
    assert told["visual_tokens"] == expected["visual_tokens"]
    assert [frame["time_s"] for frame in frames] == facts["frame_times_s"]
    assert len(frames) == facts["num_frames"] == 8
    size = (facts["input_height"], facts["input_width"], 3)
    assert {picture_of(frame["image"], "jpeg").shape for frame in frames} == {size}
    np.testing.assert_array_equal(picture_of(told["sheet"], "png"), np.asarray(contact_sheet(seen, session.processor)))


def test_frames_are_those_that_were_asked_for(http: Any, session: Session, demo_clip: Path, clip_part: Any) -> None:
    for asked, options in (
        ({"num_frames": 3}, {"frames": 3}),
        ({"fps": 2, "num_frames": 5}, {"fps": 2, "frames": 5}),
        ({"media_io_kwargs": {"video": {"num_frames": 4}}}, {"frames": 4}),
    ):
        (facts,) = http.post(PATH, json={"content": [clip_part], **asked}).json()["media"]
        ((frames, _),) = session.inspect(demo_clip, **options)
        assert facts["frame_indices"] == list(frames.frame_indices)
        assert len(facts["frames"]) == len(frames.frame_indices)


def test_frames_look_like_the_video(http: Any, session: Session, demo_clip: Path, clip_part: dict[str, Any]) -> None:
    (facts,) = http.post(PATH, json={"content": [clip_part]}).json()["media"]
    ((frames, _),) = session.inspect(demo_clip)
    for shown, pixels in zip(facts["frames"], frames.pixels, strict=True):
        # JPEG changes colours near edges a little.
        assert (
            np.abs(picture_of(shown["image"], "jpeg").astype(int) - session.processor.prepare_frame(pixels)).mean() < 8
        )


def test_pictures_and_uploads_are_shown_too(
    http: Any, demo_picture: Path, demo_clip: Path, picture_part: dict[str, Any]
) -> None:
    file = http.post("/v1/files", files={"file": ("my clip.mp4", demo_clip.read_bytes())}).json()
    content = [picture_part, {"type": "file", "file": {"file_id": file["id"]}}]
    told = http.post(PATH, json={"model": "videolm-mini", "content": content}).json()
    picture, clip = told["media"]
    assert (picture["kind"], clip["kind"], clip["source"]) == ("image", "video", "my clip.mp4")
    assert [frame["time_s"] for frame in picture["frames"]] == [None]
    assert picture_of(picture["frames"][0]["image"], "jpeg").shape == (
        picture["input_height"],
        picture["input_width"],
        3,
    )
    assert told["visual_tokens"] == picture["visual_tokens"] + clip["visual_tokens"]


def test_warnings_are_told(http: Any, picture_part: dict[str, Any]) -> None:
    as_video = {"type": "video_url", "video_url": picture_part["image_url"]}
    (facts,) = http.post(PATH, json={"content": [as_video]}).json()["media"]
    assert facts["num_frames"] == 1
    assert "has 1 frame, fewer than the 8 asked for" in facts["warnings"][0]


TEXT = "data:video/mp4;base64," + base64.b64encode(b"no film").decode()
LIST = "data:video/mp4;base64," + base64.b64encode(b"#EXTM3U\nfile:///etc/passwd\n").decode()


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "content", "missing_field"),
        ({"content": []}, "content", "invalid_value"),
        ({"content": [{"type": "text", "text": "a"}]}, "content[0].type", "invalid_value"),
        ({"content": [video(TEXT)], "frames": 8}, "frames", "unknown_field"),
        (
            {"content": [{"type": "video_url", "video_url": {"url": TEXT, "x": 1}}]},
            "content[0].video_url.x",
            "unknown_field",
        ),
        ({"content": [video(TEXT)], "num_frames": 0}, "num_frames", "invalid_value"),
        ({"content": [video(TEXT)], "fps": -1}, "fps", "invalid_value"),
        ({"content": [video(TEXT)], "num_frames": 5000}, "num_frames", "invalid_value"),
        ({"content": [video(TEXT)] * 9}, "content[8]", "too_many_media"),
        ({"content": [video(TEXT)]}, "content[0]", "invalid_media"),
        ({"content": [video(LIST)]}, "content[0]", "invalid_media"),
        ({"content": [video("data:video/mp4;base64,A")]}, "content[0]", "invalid_media"),
        ({"content": [video("file:///etc/passwd")]}, "content[0].video_url.url", "local_media_off"),
        ({"content": [video("http://127.0.0.1:1/a")]}, "content[0]", "media_not_fetched"),
    ],
)
def test_what_is_wrong_is_named(http: Any, body: dict[str, Any], param: str, code: str) -> None:
    error = error_of(http.post(PATH, json=body))
    assert (error["param"], error["code"]) == (param, code)


def test_the_wrong_one_of_several_media_is_named(http: Any, clip_part: dict[str, Any]) -> None:
    assert error_of(http.post(PATH, json={"content": [clip_part, video(TEXT), clip_part]}))["param"] == "content[1]"


def test_another_model_is_not_found(http: Any, clip_part: dict[str, Any]) -> None:
    error = error_of(http.post(PATH, json={"model": "gpt-4", "content": [clip_part]}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_a_video_sent_as_a_picture_is_told_what_to_do(http: Any, clip_part: dict[str, Any]) -> None:
    error = error_of(http.post(PATH, json={"content": [{"type": "image_url", "image_url": clip_part["video_url"]}]}))
    assert error["message"].endswith("Send it as a video_url.")
    assert http.post(PATH, json={"content": [clip_part]}).status_code == 200


def test_a_sheet_has_a_bound(http: Any, monkeypatch: pytest.MonkeyPatch, clip_part: dict[str, Any]) -> None:
    from videolm.server import inspect

    monkeypatch.setattr(inspect, "MAX_FRAMES", 10)
    assert http.post(PATH, json={"content": [clip_part]}).status_code == 200
    error = error_of(http.post(PATH, json={"content": [clip_part, clip_part]}))
    assert (error["param"], error["code"]) == ("content[1]", "too_many_frames")


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"media": MediaLimits(max_bytes=1000)}, "--max-media-bytes"),
        ({"media": MediaLimits(max_pixels=100)}, "--max-pixels"),
        ({"media": MediaLimits(max_duration_s=0.5)}, "--max-duration"),
        ({"media": MediaLimits(max_packets=3)}, "--max-packets"),
        ({"media": MediaLimits(max_frames=3)}, "--max-frames"),
        ({"decode_timeout_s": 0.001}, "--decode-timeout"),
    ],
)
def test_every_limit_is_named_by_its_flag(serve: Any, clip_part: dict[str, Any], options: Any, flag: str) -> None:
    with serve(**options).http() as http:
        error = error_of(http.post(PATH, json={"content": [clip_part]}))
    assert (error["param"], error["code"]) == ("content[0]", "media_limit_exceeded")
    assert f"start the server with a higher {flag}." in error["message"]

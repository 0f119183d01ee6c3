"""Files of features: what is written is read, and nothing else is, whatever happens to a file or beside it."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from videolm.contracts import Features, Frames, VisualInput
from videolm.engine.feature_files import FORMAT_VERSION, FeatureFolder, StoredMedium, UnusableFileError
from videolm.visual_tokens import TokenBudget

KEY, OTHER = "a" * 64, "b" * 64


def medium(seed: int = 0, *, num_tokens: int = 3, dtype: torch.dtype = torch.bfloat16) -> StoredMedium:
    tokens = torch.randn(num_tokens, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)
    frames = Frames(
        kind="video",
        pixels=(),
        source="clip.mp4",
        size=(48, 64),
        frame_indices=(0, 5),
        frame_times_s=(0.0, 0.5),
        num_source_frames=10,
        fps=10.0,
        duration_s=1.0,
        method="packet-index",
        warnings=("clip.mp4 is short.",),
        chosen={"frames": 2, "rope_factor": 2.0},
    )
    visual = VisualInput(
        kind="video",
        pixel_values=torch.zeros(2, 3, 4, 4),
        size=(48, 64),
        num_tokens=num_tokens,
        note="The video lasts.",
        budget=TokenBudget(fraction=0.5, method="fastvid", stride=4),
        rope_factor=2.0,
        content="c",
    )
    return StoredMedium.of(frames, visual, Features(tokens=tokens))


def tokens_of(stored: StoredMedium | None) -> torch.Tensor:
    assert stored is not None
    assert stored.visual.features is not None
    return stored.visual.features.tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_medium_comes_back_as_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    folder, written = FeatureFolder(tmp_path, max_bytes=10_000), medium(dtype=dtype)
    folder.write(KEY, written)
    read = folder.read(KEY)
    assert read is not None
    assert read.frames == written.frames
    torch.testing.assert_close(tokens_of(read), tokens_of(written), atol=0, rtol=0)
    empty = torch.empty(0)
    bare = [replace(each.visual, features=None, pixel_values=empty) for each in (read, written)]
    assert bare[0] == bare[1]
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.safetensors"]
    assert folder.read(OTHER) is None


def test_features_alone_can_be_stored(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)
    folder.write(KEY, replace(medium(), frames=None))
    read = folder.read(KEY)
    assert read is not None
    assert read.frames is None


def rewritten(path: Path, **metadata: str) -> None:
    """The same file with other metadata, whole and readable."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    path.write_bytes(safetensors.torch.save(safetensors.torch.load(data), metadata=header | metadata))


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)
    folder.write(KEY, medium())
    path, data = folder.path_of(KEY), folder.path_of(KEY).read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(UnusableFileError):
            folder.read(KEY)


def test_every_changed_byte_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)
    folder.write(KEY, medium())
    path, data = folder.path_of(KEY), folder.path_of(KEY).read_bytes()
    whole = folder.read(KEY)
    assert whole is not None
    for index in range(0, len(data), 3):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        try:
            read = folder.read(KEY)
        except UnusableFileError:
            continue
        assert read is not None
        assert read.frames == whole.frames  # a space of the header's padding
        assert torch.equal(tokens_of(read), tokens_of(whole))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"version": "0"}, f"is of version '0', where '{FORMAT_VERSION}' is expected"),
        ({"format": "pt"}, "is of version"),
        ({"key": OTHER}, "holds another medium than its name says"),
        ({"medium": '{"frames": null, "visual": {}}'}, "does not have the contents that were written"),
        ({"sha256": "0" * 64}, "does not have the contents that were written"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)
    folder.write(KEY, medium())
    rewritten(folder.path_of(KEY), **metadata)
    with pytest.raises(UnusableFileError, match=message):
        folder.read(KEY)


def test_another_mediums_file_under_this_name_is_not_used(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)
    folder.write(OTHER, medium())
    folder.path_of(OTHER).rename(folder.path_of(KEY))
    with pytest.raises(UnusableFileError, match="holds another medium"):
        folder.read(KEY)


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    size = len(_bytes_of(medium()))
    folder = FeatureFolder(tmp_path, max_bytes=2 * size + size // 2)
    for age, key in ((30, "a"), (20, "b")):
        folder.write(key, medium())
        os.utime(folder.path_of(key), (age, age))
    folder.read("a")  # now "b" is the older
    old = tmp_path / ".old.unfinished"
    old.touch()
    os.utime(old, (1, 1))
    new = tmp_path / ".new.unfinished"
    new.touch()
    folder.write("c", medium())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.unfinished", "a.safetensors", "c.safetensors"]


def test_what_can_never_fit_is_not_written(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=100)
    with pytest.raises(OSError, match="more than the 100 that the cache may hold"):
        folder.write(KEY, medium())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FeatureFolder(tmp_path, max_bytes=10_000)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write(KEY, medium())
    assert list(tmp_path.iterdir()) == []


def test_processes_that_write_the_same_key_do_not_disturb_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(tmp_path, seed)) for seed in range(2)]
    for writer in writers:
        writer.start()
    expected = [tokens_of(medium(seed, num_tokens=400)) for seed in range(2)]
    folder, found = FeatureFolder(tmp_path, max_bytes=1_000_000), 0
    while any(writer.is_alive() for writer in writers):
        if (read := folder.read(KEY)) is not None:
            found += 1
            assert any(torch.equal(tokens_of(read), each) for each in expected)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert found
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.safetensors"]


def _write_often(path: Path, seed: int) -> None:
    folder = FeatureFolder(path, max_bytes=1_000_000)
    for _ in range(20):
        folder.write(KEY, medium(seed, num_tokens=400))


def _bytes_of(stored: StoredMedium) -> bytes:
    from videolm.engine.feature_files import _encode

    return _encode(stored, "a")

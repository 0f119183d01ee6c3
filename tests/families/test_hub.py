"""Names of models to folders: paths, the hub's cache, the hub, and what each of them refuses."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from videolm.errors import ModelNotFoundError
from videolm.families.hub import resolve


def test_a_folder_is_its_own_name(tiny_folder: Path) -> None:
    assert resolve(str(tiny_folder)) == tiny_folder


@pytest.mark.parametrize("name", ["nowhere", "./no/such/model", "/no/such", "a/b/c"])
def test_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match=f"{name} does not exist: expected the folder of a model, or a hub name"
    ):
        resolve(name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_working_folder(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="The name of the model is empty: expected the folder of a model"):
        resolve(name)


def test_a_file_is_no_model(tiny_folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a file: expected the folder of a model"):
        resolve(tiny_folder / "config.json")


def pretend_hub(monkeypatch: pytest.MonkeyPatch, *, cached: Path | None, online: Path | Exception) -> list[bool]:
    """Replace the hub's client; the list returned says for each call whether it was for the cache alone."""
    calls: list[bool] = []

    def snapshot_download(name: str, *, local_files_only: bool = False, allow_patterns: list[str]) -> str:
        assert name == "organisation/model"
        assert "*.bin" not in allow_patterns
        calls.append(local_files_only)
        if local_files_only and cached is None:
            raise LocalEntryNotFoundError("nothing")
        found = cached if local_files_only else online
        if isinstance(found, Exception):
            raise found
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return calls


def test_a_hub_name_comes_from_the_cache_first(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    calls = pretend_hub(monkeypatch, cached=tiny_folder, online=AssertionError("not asked"))
    assert resolve("organisation/model") == tiny_folder
    assert calls == [True]


def test_a_partly_cached_model_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, tmp_path: Path
) -> None:
    partly = tmp_path / "partly"
    partly.mkdir()
    (partly / "config.json").write_text("{}")
    calls = pretend_hub(monkeypatch, cached=partly, online=tiny_folder)
    assert resolve("organisation/model") == tiny_folder
    assert calls == [True, False]


def hub_error(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    return kind("no", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("online", "message"),
    [
        (hub_error(RepositoryNotFoundError), "the hub has no such model or does not show it to you"),
        (hub_error(HfHubHTTPError), r"not in the hub cache, and the hub cannot be reached \(HfHubHTTPError\)"),
        (OSError("no route"), r"the hub cannot be reached \(OSError\)"),
        (LocalEntryNotFoundError("no"), "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch, online: Exception, message: str) -> None:
    pretend_hub(monkeypatch, cached=None, online=online)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        resolve("organisation/model")
    assert "\n" not in str(caught.value)


def test_no_download_when_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pretend_hub(monkeypatch, cached=None, online=AssertionError("not asked"))
    with pytest.raises(ModelNotFoundError, match="no folder of that name, and not in the hub cache"):
        resolve("organisation/model", download=False)
    assert calls == [True]

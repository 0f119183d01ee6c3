"""Names of models to folders: paths, the hub's cache, the hub, and what each of them refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from videolm.errors import CheckpointError, ModelNotFoundError
from videolm.families.auto_classes import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
from videolm.families.hub import HubOptions, resolve
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration
from videolm.session import load_reader


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


NAME, COMMIT = "organisation/model", "0123456789" * 4


class Hub:
    """A hub with one repository, and a cache of it in a folder; ``calls`` tells which files were fetched."""

    def __init__(self, cache: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.files = files
        self.fails: Exception | None = None
        self.calls: list[tuple[str | None, list[str]]] = []
        self._real = huggingface_hub.snapshot_download
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.about)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))

    def put(self, *names: str) -> Path:
        """These files into the cache, as the hub's client lays them out."""
        repository = self.cache / f"models--{NAME.replace('/', '--')}"
        for name in names:
            path = repository / "snapshots" / COMMIT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.files[name])
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        return repository / "snapshots" / COMMIT

    def about(self, name: str, *, revision: str | None = None) -> Any:
        assert name == NAME
        if self.fails is not None:
            raise self.fails
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def download(self, name: str, *, local_files_only: bool = False, **options: Any) -> str:
        assert name == NAME
        if local_files_only:
            return str(self._real(name, local_files_only=True, **{"cache_dir": self.cache, **options}))
        wanted = options["allow_patterns"]
        self.calls.append((options.get("revision"), sorted(wanted)))
        return str(self.put(*wanted))


INDEX = json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}})
SETTINGS = {"config.json": "{}", "tokenizer.json": "{}", "preprocessor_config.json": "{}", "chat_template.jinja": ""}
OTHERS = {"README.md": "", "flax_model.msgpack": "", "trainer_state.pt": "", "runs/model.safetensors": ""}
BIN = {
    "pytorch_model.bin.index.json": INDEX,
    "pytorch_model-00001-of-00002.bin": "",
    "pytorch_model-00002-of-00002.bin": "",
}


@pytest.fixture
def make_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Hub]:
    return lambda files: Hub(tmp_path / "cache", {**SETTINGS, **OTHERS, **files}, monkeypatch)


MakeHub = Callable[[dict[str, str]], Hub]


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"model.safetensors": ""}, ["model.safetensors"]),
        (BIN, [name for name in BIN if name.endswith(".bin")]),
        ({"model.safetensors": "", **BIN}, ["model.safetensors"]),
        (
            {"adapter_config.json": "{}", "adapter_model.bin": "", "non_lora_trainables.bin": "", "optimizer.bin": ""},
            ["adapter_model.bin", "non_lora_trainables.bin"],
        ),
        ({"mm_projector.bin": ""}, ["mm_projector.bin"]),
    ],
    ids=["safetensors", "bin", "both", "adapter", "projector"],
)
def test_what_is_fetched_of_a_repository(make_hub: MakeHub, files: dict[str, str], weights: list[str]) -> None:
    hub = make_hub(files)
    settings = [name for name in {**SETTINGS, **files} if name.endswith((".json", ".jinja"))]
    found = resolve(NAME)
    assert hub.calls == [(None, sorted([*settings, *weights]))]
    assert sorted(path.name for path in found.iterdir()) == sorted([*settings, *weights])
    assert resolve(NAME) == found
    assert len(hub.calls) == 1, "what is in the cache is not asked for again"


def test_a_processor_needs_no_weights(make_hub: MakeHub) -> None:
    hub = make_hub(BIN)
    found = resolve(NAME, weights=False)
    assert not [path for path in found.iterdir() if path.suffix == ".bin"]
    assert resolve(NAME, weights=False) == found
    assert len(hub.calls) == 1
    resolve(NAME)
    assert len([path for path in found.iterdir() if path.suffix == ".bin"]) == 2


def test_a_whole_model_serves_its_processor(make_hub: MakeHub) -> None:
    hub = make_hub(BIN)
    folder = hub.put(*SETTINGS, *BIN)
    assert resolve(NAME) == resolve(NAME, weights=False) == folder
    assert hub.calls == []


@pytest.mark.parametrize("missing", ["config.json", "pytorch_model-00002-of-00002.bin"])
def test_a_partly_cached_model_is_fetched_again(make_hub: MakeHub, missing: str) -> None:
    hub = make_hub(BIN)
    folder = hub.put(*(name for name in {**SETTINGS, **BIN} if name != missing))
    assert resolve(NAME) == folder
    assert (folder / missing).is_file()


def test_a_revision_and_a_folder_inside(make_hub: MakeHub) -> None:
    hub = make_hub({"inner/config.json": "{}", "inner/model.safetensors": "", "model.safetensors": ""})
    found = resolve(NAME, options=HubOptions(revision="v2", subfolder="inner"))
    assert hub.calls == [("v2", ["inner/config.json", "inner/model.safetensors"])]
    assert found.name == "inner"


def test_scripts_ask_for_what_they_read(make_hub: MakeHub, tiny_folder: Path) -> None:
    """Configuration and tokenizer do not fetch weights; the model does."""
    names = [path.name for path in tiny_folder.iterdir() if path.suffix != ".safetensors"]
    hub = make_hub({name: (tiny_folder / name).read_text() for name in names} | {"model.safetensors": ""})
    assert AutoConfig.from_pretrained(NAME).model_type == "llava_next_video"
    AutoTokenizer.from_pretrained(NAME)
    load_reader(NAME)
    assert [[name for name in fetched if name.endswith("safetensors")] for _, fetched in hub.calls] == [[]]
    with pytest.raises(CheckpointError, match=r"model\.safetensors \(0 bytes\) cannot be read"):
        AutoModelForImageTextToText.from_pretrained(NAME)
    assert hub.calls[-1][1].count("model.safetensors") == 1


def hub_error(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    return kind("no", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("online", "message"),
    [
        (hub_error(RepositoryNotFoundError), "the hub has no such model or does not show it to you"),
        (hub_error(RevisionNotFoundError), "the hub has no revision None of it"),
        (hub_error(HfHubHTTPError), r"not in the hub cache, and the hub cannot be reached \(HfHubHTTPError\)"),
        (OSError("no route"), r"the hub cannot be reached \(OSError\)"),
        (LocalEntryNotFoundError("no"), "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses(make_hub: MakeHub, online: Exception, message: str) -> None:
    make_hub({}).fails = online
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        resolve(NAME)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["download", "local_files_only", "HF_HUB_OFFLINE"])
def test_no_download_when_it_is_off(make_hub: MakeHub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    hub = make_hub(BIN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", how == "HF_HUB_OFFLINE")

    def ask() -> Any:
        if how == "local_files_only":
            return LlavaNextVideoForConditionalGeneration.from_pretrained(NAME, local_files_only=True)
        return resolve(NAME, download=how != "download")

    with pytest.raises(ModelNotFoundError, match="no folder of that name, and not in the hub cache"):
        ask()
    hub.put(*SETTINGS)
    with pytest.raises(ModelNotFoundError, match=r"only partly in the hub cache .* while downloads are off"):
        ask()
    assert hub.calls == []


def test_a_cache_elsewhere(make_hub: MakeHub, tmp_path: Path) -> None:
    hub = make_hub({"model.safetensors": ""})
    folder = hub.put(*SETTINGS, "model.safetensors")
    hub.cache = tmp_path / "nowhere"
    assert resolve(NAME, options=HubOptions(cache_dir=tmp_path / "cache", download=False)) == folder


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelNotFoundError, match=r"the hub cannot be reached \(ConnectionError\)\. Pass the path"):
        resolve(NAME)

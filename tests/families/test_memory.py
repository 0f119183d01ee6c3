"""What loading costs: memory for the weights once, in the dtype that they end in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.families.initialise import without_values
from videolm.families.llava_next_video import FAMILY, LlavaNextVideoForConditionalGeneration
from videolm.weights.writing import PlannedTensor, write_safetensors

CONFIG: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 6,
        "num_attention_heads": 16,
        "vocab_size": 32000,
    },
    "model_type": "llava_next_video",
    "dtype": "float16",
    "image_token_index": 31999,
    "video_token_index": 31998,
}
MEASURE = """
import json, sys, threading, time
import torch
from videolm.families.auto import load_model

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

folder, small = sys.argv[1:]
load_model(small, dtype="bfloat16")  # What a first load imports and sets up is no part of this.
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
start = time.process_time()
model = load_model(folder, dtype="bfloat16")
spent = time.process_time() - start
done.set()
watcher.join()
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
assert model.dtype == torch.bfloat16
print(json.dumps({"grown": max(peak, anonymous()) - before, "weights": weights, "spent": spent}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """310 MB of random numbers in float16, in the names of old files."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with without_values():
        model = LlavaNextVideoForConditionalGeneration(CONFIG)
    generator = torch.Generator().manual_seed(0)
    planned = [
        PlannedTensor(
            name=FAMILY.save_layouts["hf"].to_file(name),
            shape=tuple(tensor.shape),
            dtype=torch.float16,
            read=lambda shape=tensor.shape: torch.randn(shape, generator=generator),  # type: ignore[misc]
        )
        for name, tensor in model.state_dict().items()
    ]
    write_safetensors(folder / "model.safetensors", planned)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_are_in_memory_once(large: Path, tiny_folder: Path, tmp_path: Path, form: str) -> None:
    folder = large
    if form == "bin":
        from safetensors.torch import load_file

        (tmp_path / "bin").mkdir()
        folder = tmp_path / "bin"
        (folder / "config.json").write_text(json.dumps(CONFIG))
        torch.save(load_file(large / "model.safetensors"), folder / "pytorch_model.bin")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(tiny_folder)], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout)
    print(measured)
    assert measured["weights"] > 280e6
    assert measured["grown"] <= 1.1 * measured["weights"]

"""Both sides of the row ``gpu``, in one process on one device: the same random weights, in memory once.

Both are given ids and pixel values that lie on the device, and both tell when each token was there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from engine_model import byte_tokenizer
from engine_ours import Ours, greedy, question_ids
from gpu_plan import our_settings, peer_settings

from videolm.contracts import ModelInputs, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.families import auto
from videolm.families.base import FamilyModel
from videolm.processing.tokenizer import Tokenizer
from videolm.visual_tokens import ALL_TOKENS, TokenBudget

Timed = tuple[list[list[int]], list[list[float]]]
"""Of each request: its ids, and the seconds from the call to each of them."""
MOST_BATCH_TOKENS = 1 << 16
"""Prompts that come together are read in pieces of so many tokens: enough that larger ones are read no faster."""


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DeviceOurs(Ours):
    """An engine of its own for a model that is there already; prompts are ids, so only a tokenizer is needed."""

    def __init__(self, model: FamilyModel, tokenizer: Tokenizer, config: EngineConfig) -> None:
        self.model = model
        self.engine = Engine(model, SimpleNamespace(tokenizer=tokenizer), config)
        self._count = 0

    def together(self, prompts: Sequence[ModelInputs], num_new: int) -> Timed:
        """Requests that come at the same time, each about media of its own."""
        start = time.perf_counter()
        ids, times = dict[str, tuple[int, ...]](), dict[str, list[float]]()
        for prompt in prompts:
            request = self.request(prompt, num_new, f"medium {self._count}")
            ids[request.id], times[request.id] = (), []
            self.engine.add(request)
        while self.engine.has_requests:
            for output in self.engine.step():
                if output.error is not None:
                    cause = output.error.__cause__
                    raise cause if isinstance(cause, torch.OutOfMemoryError) else output.error
                count = len(output.output_ids) - len(ids[output.id])
                times[output.id] += [time.perf_counter() - start] * count
                ids[output.id] = output.output_ids
        return [list(each) for each in ids.values()], list(times.values())

    def request(self, prompt: ModelInputs, num_new: int, key: str) -> Request:
        """A request whose medium is known by a key, so that nothing is copied from the device to hash it."""
        keys = tuple(f"{key}, {index}" for index in range(len(prompt.media)))
        return Request(id=self.new_id(), inputs=prompt, params=greedy(num_new), media_keys=keys)


class DevicePeer:
    """A model of transformers in this process."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device

    @torch.inference_mode()
    def generate(self, prompts: Sequence[ModelInputs], num_new: int, cache: str | None = None) -> Timed:
        """Greedy ids of prompts of one length, in one batch."""
        from transformers import StoppingCriteriaList

        inputs = self._inputs(prompts)
        stamps = _Stamps()
        options = {"cache_implementation": cache} if cache else {}
        synchronize(self.device)
        start = time.perf_counter()
        found = self.model.generate(
            **inputs, **options, do_sample=False, max_new_tokens=num_new, min_new_tokens=num_new, pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([stamps]),
        )  # fmt: skip
        times = [stamp - start for stamp in stamps.times]
        return found[:, inputs["input_ids"].shape[1] :].tolist(), [times for _ in prompts]

    @torch.inference_mode()
    def prefill(self, prompt: ModelInputs) -> tuple[float, int]:
        """Seconds of one pass through a prompt, and its next id."""
        inputs = self._inputs([prompt])
        synchronize(self.device)
        start = time.perf_counter()
        found = int(self.model(**inputs, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())
        return time.perf_counter() - start, found

    @torch.inference_mode()
    def logits(self, prompt: ModelInputs) -> torch.Tensor:
        """What it says after a prompt, ``[V]``."""
        return self.model(**self._inputs([prompt]), logits_to_keep=1).logits[0, -1].float()

    def _inputs(self, prompts: Sequence[ModelInputs]) -> dict[str, Any]:
        ids = torch.tensor([prompt.input_ids for prompt in prompts], device=self.device)  # [B, S]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if prompts[0].media:
            pixels = torch.stack([prompt.media[0].pixel_values for prompt in prompts])  # [B, F, 3, H, W]
            inputs["pixel_values_videos"] = pixels.to(self.device, self.model.dtype)
        return inputs


class _Stamps:
    """A stopping criterion that never stops, and notes when each token of a batch was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        synchronize(input_ids.device)
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """A model on both sides."""

    model: FamilyModel
    peer: DevicePeer
    tokenizer: Tokenizer

    def ours(self, *, room: int, batch: int = 1, reuses: bool = False) -> DeviceOurs:
        """An engine with room for so many tokens of ``batch`` requests.

        Args:
            room: Tokens of prompts and answers together.
            batch: Requests that run at once.
            reuses: Whether it finds again what it has computed.
        """
        if self.model.device.type == "cuda":
            gc.collect()  # The keys and values of an engine before this one.
        config = EngineConfig(
            num_blocks=room // 16 + 2 * batch, max_running=batch, lays_out_weights=False, reuses_prefixes=reuses,
            max_batch_tokens=max(min(room, MOST_BATCH_TOKENS), batch), feature_bytes=1 << 30 if reuses else 0,
        )  # fmt: skip
        return DeviceOurs(self.model, self.tokenizer, config)

    def video(self, num_frames: int, seed: int, kept_share: float = 1.0) -> VisualInput:
        """Random pixel values on the device, in the model's dtype."""
        vision, device = self.model.model.config.vision, self.model.device
        budget = ALL_TOKENS if kept_share == 1 else TokenBudget(fraction=kept_share)
        side, generator = vision.image_size, torch.Generator(device).manual_seed(seed)
        pixels = torch.randn(num_frames, 3, side, side, generator=generator, device=device, dtype=self.model.dtype)
        count = self.model.tokens.video.within(budget).count(num_frames)
        return VisualInput(kind="video", pixel_values=pixels, size=(side, side), num_tokens=count, budget=budget)

    def prompts(self, num_frames: int, count: int) -> list[ModelInputs]:
        """Questions of one length, each about a video of its own."""
        return [ask(self.video(num_frames, index), index) for index in range(count)]


def ask(medium: VisualInput, index: int) -> ModelInputs:
    """One of several questions about a video."""
    return ModelInputs(input_ids=tuple(question_ids(medium, index)), media=(medium,), media_starts=(1,))


def make_sides(family: str, size: str, device: str, dtype: torch.dtype) -> Sides:
    """A model with random weights, made on the device; ours reads the very tensors of the peer."""
    declare_missing_operators()
    import transformers

    names = {"next": "LlavaNextVideoConfig", "video": "LlavaOnevisionConfig"}
    config = getattr(transformers, names[family])(**peer_settings(family, size))
    torch.manual_seed(0)
    with torch.device(device):
        theirs = transformers.AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()
    settings = our_settings(family, config.to_dict())
    model_class = auto.model_class_for(settings, "the benchmark's settings")
    model = model_class.from_state_dict(settings, theirs.state_dict(), device=device)
    for name, parameter in theirs.named_parameters():
        model.get_parameter(name).data = parameter.data
    tokenizer = Tokenizer(byte_tokenizer(config.text_config.vocab_size))
    return Sides(model=model, peer=DevicePeer(theirs), tokenizer=tokenizer)


def first_and_rate(times: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Milliseconds until every request has its first token, and for 1000 further tokens while all of them run."""
    first_s, end_s = max(each[0] for each in times), min(each[-1] for each in times)
    count = sum(first_s < stamp <= end_s for each in times for stamp in each)
    if not count:
        raise SystemExit("One request was answered before another had begun: expected that all run. Raise num_new.")
    return first_s * 1000, (end_s - first_s) / count * 1e6


def declare_missing_operators() -> None:
    """Declare what torchvision names and cannot load where it is made for another torch."""
    if importlib.util.find_spec("torchvision") is None:
        return
    with contextlib.suppress(RuntimeError):
        importlib.import_module("torchvision")
        return
    from peer import declare_operators

    declare_operators()

"""The peer, in its own environment: transformers behind JSON lines. Started by ``peers.Peer``, not by hand."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from typing import Any

from worker_loop import anonymous_bytes, answer_lines

START = time.perf_counter()


def declare_operators() -> None:
    """Declare what torchvision's Python code names and its CUDA wheel cannot load beside a torch for the CPU."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library


class Stamps:
    """A streamer that notes when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._saw_prompt = False

    def put(self, value: Any) -> None:
        if self._saw_prompt:
            self.times.append(time.perf_counter())
        self._saw_prompt = True

    def end(self) -> None:
        pass


class Peer:
    """One model in one dtype."""

    def __init__(self, folder: str, dtype: str, threads: int) -> None:
        import torch
        from transformers import LlavaNextVideoForConditionalGeneration

        torch.set_num_threads(threads)
        self.torch = torch
        self.folder = folder
        self.model = LlavaNextVideoForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.processor: Any = None

    def reader(self) -> Any:
        """The processor, made when it is first needed."""
        if self.processor is None:
            from transformers import (
                AutoTokenizer,
                LlavaNextImageProcessor,
                LlavaNextVideoProcessor,
                LlavaNextVideoVideoProcessor,
            )

            self.processor = LlavaNextVideoProcessor(
                video_processor=LlavaNextVideoVideoProcessor.from_pretrained(self.folder),
                image_processor=LlavaNextImageProcessor.from_pretrained(self.folder),
                tokenizer=AutoTokenizer.from_pretrained(self.folder),
                patch_size=self.model.config.vision_config.patch_size,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )
        return self.processor

    def generate(
        self,
        *,
        ids: list[list[int]],
        pixels: str | None = None,
        max_new_tokens: int,
        cache: str | None = None,
        logits: str | None = None,
        padding: list[int] | None = None,
    ) -> dict[str, Any]:
        """Greedy ids, and the seconds from the call to each token."""
        torch = self.torch
        inputs: dict[str, Any] = {"input_ids": torch.tensor(ids)}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        for row, count in enumerate(padding or []):
            inputs["attention_mask"][row, :count] = 0
        if pixels is not None:
            inputs["pixel_values_videos"] = torch.load(pixels).to(self.model.dtype)
        return self._generate(inputs, max_new_tokens, cache, logits, time.perf_counter())

    def ask(
        self, *, path: str, text: str, num_frames: int, max_new_tokens: int, cache: str | None = None
    ) -> dict[str, Any]:
        """From a file to an answer, by the library's own reader and processor."""
        start = time.perf_counter()
        inputs = self._read([path], [text], [num_frames])
        read_s = time.perf_counter() - start
        result = self._generate(inputs, max_new_tokens, cache, None, start)
        return {**result, "prompt": inputs["input_ids"][0].tolist(), "read_s": read_s}

    def ask_batch(self, *, paths: list[str], texts: list[str], num_frames: int, max_new_tokens: int) -> dict[str, Any]:
        """Several videos of as many frames in one padded batch."""
        start = time.perf_counter()
        self.reader().tokenizer.padding_side = "left"
        inputs = self._read(paths, texts, [num_frames] * len(paths))
        return self._generate(inputs, max_new_tokens, None, None, start)

    def _read(self, paths: list[str], texts: list[str], counts: list[int]) -> dict[str, Any]:
        from transformers.video_utils import load_video

        videos = [
            load_video(path, num_frames=count, backend="pyav")[0] for path, count in zip(paths, counts, strict=True)
        ]
        inputs = self.reader()(text=texts, videos=videos, return_tensors="pt", padding=len(paths) > 1)
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(self.model.dtype)
        return dict(inputs)

    def _generate(
        self, inputs: dict[str, Any], max_new_tokens: int, cache: str | None, logits: str | None, start: float
    ) -> dict[str, Any]:
        stamps = Stamps()
        options: dict[str, Any] = {"cache_implementation": cache} if cache else {}
        if len(inputs["input_ids"]) == 1:
            options["streamer"] = stamps
        with self.torch.inference_mode():
            out = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                min_new_tokens=max_new_tokens,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=logits is not None,
                **options,
            )
        total_s = time.perf_counter() - start
        if logits is not None:
            self.torch.save(self.torch.stack([row[0] for row in out.logits]).float(), logits)
        length = inputs["input_ids"].shape[1]
        return {
            "ids": out.sequences[:, length:].tolist(),
            "times_s": [stamp - start for stamp in stamps.times],
            "total_s": total_s,
        }

    def encode(self, *, pixels: str, save: str | None = None) -> dict[str, Any]:
        """Vision tower and projector."""
        values = self.torch.load(pixels).to(self.model.dtype)
        start = time.perf_counter()
        with self.torch.inference_mode():
            found = self.model.get_video_features(values)
        taken = time.perf_counter() - start
        found = getattr(found, "pooler_output", found)
        if save is not None:
            self.torch.save(self.torch.cat([part.reshape(-1, part.shape[-1]) for part in found]).float(), save)
        return {"total_s": taken}

    def prefill(self, *, ids: list[int], logits: str | None = None) -> dict[str, Any]:
        """One forward pass; the logits of the last position alone."""
        row = self.torch.tensor([ids])
        start = time.perf_counter()
        with self.torch.inference_mode():
            out = self.model(input_ids=row, use_cache=True, logits_to_keep=1)
        taken = time.perf_counter() - start
        if logits is not None:
            self.torch.save(out.logits[0, -1:].float(), logits)
        return {"total_s": taken, "ids": [[int(out.logits[0, -1].argmax())]]}

    def read(self, *, path: str, num_frames: int) -> dict[str, Any]:
        """The frames alone."""
        from transformers.video_utils import load_video

        start = time.perf_counter()
        frames = load_video(path, num_frames=num_frames, backend="pyav")[0]
        return {"total_s": time.perf_counter() - start, "sha256": hashlib.sha256(frames.tobytes()).hexdigest()}


def load(**settings: Any) -> tuple[Peer, dict[str, Any]]:
    """Imports, then weights and processor."""
    if importlib.util.find_spec("torchvision"):
        declare_operators()
    from transformers import LlavaNextVideoForConditionalGeneration, LlavaNextVideoProcessor  # noqa: F401

    loading, imported = time.perf_counter(), anonymous_bytes(os.getpid())
    peer = Peer(**settings)
    now = time.perf_counter()
    return peer, {"import_s": loading - START, "load_s": now - loading, "imported_bytes": imported}


if __name__ == "__main__":
    answer_lines(load)

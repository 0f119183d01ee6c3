"""What the row ``gpu`` measures: sizes, limits, the sub-rows with their aims, the configurations of both families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine_rows import SubRow

RATE_UNIT = "ms per 1000 tokens"


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """Sizes of the measurement."""

    device: str = "cuda"
    size: str = "7b"
    """``7b`` has the shapes of the published checkpoints; ``small`` is for a trial on any device."""
    repeats: int = 5
    batch_sizes: tuple[int, ...] = (1, 8, 32, 128)
    frames: tuple[int, ...] = (8, 32)
    num_new: int = 33
    prefill_len: int = 4644
    video_frames: int = 64
    kept_share: float = 0.25
    """Of the visual tokens."""
    again_frames: int = 32
    questions: int = 6

    users: int = 16
    user_questions: int = 4
    user_videos: int = 4
    user_frames: int = 32
    user_new: int = 16
    arrivals_s: float = 1.0
    """Mean time in which all requests arrive."""
    peer_batches: tuple[int, ...] = (1, 8)
    """What the peer's best batch is looked for among."""

    copied_bytes: int = 4 << 30
    product_side: int = 8192


GPU = GpuPlan()
TRIAL = GpuPlan(
    device="cpu", size="small", repeats=2, batch_sizes=(1, 3), frames=(1, 2), num_new=8, prefill_len=40, video_frames=3,
    again_frames=2, questions=3, users=2, user_questions=2, user_videos=1, user_frames=2, user_new=3, arrivals_s=0.05,
    peer_batches=(1, 2), copied_bytes=1 << 20, product_side=64,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes and floating-point operations a second that a device can do."""

    bytes_a_s: float
    flop_a_s: float

    @property
    def text(self) -> str:
        return f"{self.bytes_a_s / 1e12:.3g} TB/s and {self.flop_a_s / 1e12:.3g} TFLOP/s"


KNOWN = {"H200": Limits(bytes_a_s=4.3e12, flop_a_s=790e12)}
"""Measured before on such devices, by a part of their name; the aims are shares of these."""


def known_limits(device_name: str) -> Limits | None:
    """Those of a device of this name."""
    return next((limits for part, limits in KNOWN.items() if part in device_name), None)


def first_name(batch: int, frames: int) -> str:
    """The sub-row about the first token of every request of a batch."""
    return f"batch {batch}, {frames} frames: first token"


def decode_name(batch: int, frames: int) -> str:
    """The sub-row about all further tokens."""
    return f"batch {batch}, {frames} frames: decode"


def bandwidth_name(frames: int) -> str:
    """The sub-row about the share of the bandwidth, whose second column is the limit."""
    return f"{decode_name(1, frames)}, beside the bandwidth limit"


def compiled_name(frames: int) -> str:
    """The sub-row about the peer's other way to decode."""
    return f"{decode_name(1, frames)}, beside the peer's static cache, which it compiles on a GPU"


def prefill_names(plan: GpuPlan) -> tuple[str, str]:
    """Beside the peer, and beside the limit."""
    name = f"prefill of {plan.prefill_len} tokens"
    return name, f"{name}, beside the arithmetic limit"


def video_names(plan: GpuPlan) -> tuple[str, str]:
    """With all visual tokens, and with a share of them."""
    name = f"LLaVA-Video shapes, {plan.video_frames} frames: first token"
    return name, f"{name}, {plan.kept_share:.0%} of the visual tokens"


def again_name(plan: GpuPlan) -> str:
    """The sub-row about further questions."""
    return f"first token of the second question about {plan.again_frames} frames"


def many_names(plan: GpuPlan) -> tuple[str, str]:
    """All answers, and the mean wait."""
    name = f"{plan.users * plan.user_questions} questions of {plan.users} users about {plan.user_videos} videos"
    return f"{name}: all answers", f"{name}: a request, mean"


def planned_rows(plan: GpuPlan) -> dict[str, SubRow]:
    """Every sub-row by its name, without values."""
    rows = list[SubRow]()
    for frames in plan.frames:
        for batch in plan.batch_sizes:
            rows.append(_row(first_name(batch, frames), None))
            rows.append(_row(decode_name(batch, frames), 4 if batch == 1 else None, RATE_UNIT))
            if batch == 1:
                rows.append(_row(bandwidth_name(frames), 0.7, RATE_UNIT))
            if (batch, frames) == (1, plan.frames[0]):
                rows.append(_row(compiled_name(frames), None, RATE_UNIT))
    rows += [_row(name, aim) for name, aim in zip(prefill_names(plan), (None, 0.5), strict=True)]
    rows += [_row(name, aim) for name, aim in zip(video_names(plan), (1.3, 2.5), strict=True)]
    rows.append(_row(again_name(plan), 10))
    rows += [_row(name, aim) for name, aim in zip(many_names(plan), (10, None), strict=True)]
    return {row.name: row for row in rows}


def _row(name: str, aim: float | None, unit: str = "ms") -> SubRow:
    return SubRow(name=name, aim=aim, ours=(), peer=(), unit=unit, outputs="")


# --- configurations, in the form of transformers ---

SHARED_IDS = {"image_token_index": 4, "video_token_index": 3}
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL_TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512,
}  # fmt: skip
SMALL_VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 8192,
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
}  # fmt: skip
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {"next": (CLIP, LLAMA), "video": (SIGLIP, QWEN)}


def peer_settings(family: str, size: str) -> dict[str, Any]:
    """What the peer's configuration is made of: ``next`` is LLaVA-NeXT-Video, ``video`` LLaVA-Video."""
    vision, text = PARTS[family]
    if size == "small":
        side = 56 if family == "next" else 70
        vision, text = vision | SMALL_VISION | {"image_size": side}, text | SMALL_TEXT
        pinpoints = [[side, 2 * side], [2 * side, side]]
    else:
        pinpoints = [[336, 672], [672, 336], [672, 672]] if family == "next" else None
    return SHARED_IDS | {
        "vision_config": vision, "text_config": text | SPECIAL_IDS, "tie_word_embeddings": False,
        **({"image_grid_pinpoints": pinpoints} if pinpoints else {}),
    }  # fmt: skip


def our_settings(family: str, config: dict[str, Any]) -> dict[str, Any]:
    """The same model for ours, from the peer's configuration."""
    if family == "next":
        return config
    kept = ("vision_config", "text_config", "image_token_index", "video_token_index", "image_grid_pinpoints")
    # Where LLaVA-OneVision differs from the published LLaVA-Video: one newline a video, sizes as (height, width).
    return {name: config[name] for name in kept} | {
        "model_type": "llava_next_video2", "spatial_pool_mode": "bilinear", "newline_position": "one_token",
        "round_unpad": True, "pinpoint_order": "height_width",
    }  # fmt: skip

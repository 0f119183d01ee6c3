"""Packed batches in, logits out: the model with its cache, and whatever is laid out to run it fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from videolm.engine.batch import Row, StepBatch
from videolm.engine.config import CacheDtype, EngineConfig
from videolm.engine.decode_graphs import Capture, DecodeGraphs, capture_for
from videolm.engine.decode_pass import NUM_SPARE_SLOTS, decodes
from videolm.engine.memory import free_bytes
from videolm.engine.paged_cache import Int8Cache, PagedCache, Storage
from videolm.engine.paged_plan import PagedPlan
from videolm.engine.work import Copy
from videolm.errors import CapacityError
from videolm.models.prepacked import lay_out_linears, prepack_linears
from videolm.models.video_lm import VideoLM
from videolm.native.attention import DTYPES, WIDEST_HEAD, has_attention

__all__ = ["SHARE_OF_FREE", "ModelRunner", "cached_token_bytes"]

SHARE_OF_FREE = 0.25
"""What a cache takes of a device's free memory where its size is left to it."""


class ModelRunner:
    """Runs one model."""

    def __init__(self, model: VideoLM, config: EngineConfig, *, capture: Capture | None = None) -> None:
        """``capture``: how a pass is captured; None: as suits the device, not at all on a CPU."""
        if config.lays_out_weights:
            prepack_linears(model)
            if config.lays_out_at_once:
                lay_out_linears(model)
        self.model = model
        self.block_size = config.block_size
        decoder = model.model.config.decoder
        self._row_width = decoder.num_key_value_heads * decoder.head_width
        self._has_kernel = config.compiles_kernels and _suits_kernel(model)
        dtype = _row_dtype(config.cache_dtype, model, self._has_kernel)
        self._has_kernel &= dtype in (*DTYPES, torch.int8)  # What is in int8 is read as float32 or bfloat16.
        self.num_blocks = _num_blocks(config, model)
        num_slots = self.num_blocks * config.block_size
        capture = capture or capture_for(config, model.device)
        kind = Int8Cache if dtype == torch.int8 else PagedCache
        self.storage: Storage = kind(
            decoder.num_hidden_layers,
            num_slots if capture is None else num_slots + NUM_SPARE_SLOTS,
            decoder.num_key_value_heads,
            decoder.head_width,
            dtype=_row_dtype("auto", model, self._has_kernel) if dtype == torch.int8 else dtype,
            device=model.device,
        )
        self._graphs: DecodeGraphs | None = None
        if capture is not None and isinstance(self.storage, PagedCache):
            self._graphs = DecodeGraphs(model, self.storage, capture, block_size=config.block_size, num_slots=num_slots)

    @torch.inference_mode()
    def copy(self, copies: Iterable[Copy]) -> None:
        """Copy the beginnings of blocks."""
        for copy in copies:
            source, target = copy.source * self.block_size, copy.target * self.block_size
            self.storage.copy(source, target, copy.num_tokens)

    @torch.inference_mode()
    def compute(self, rows: Sequence[Row]) -> Tensor:
        """Compute a step of several sequences; gives logits ``[num logits, V]``."""
        if self._graphs is not None and decodes(rows):
            logits = self._graphs.run(rows)
            if logits is not None:
                return logits
        return self.run(StepBatch.of(rows, block_size=self.block_size, device=self.model.device))

    @torch.inference_mode()
    def run(self, batch: StepBatch) -> Tensor:
        """Compute a batch; gives logits ``[num logits, V]``."""
        model = self.model
        embeds = model.embed(batch.input_ids, batch.visual_positions, batch.features)
        cache, spans = self.storage.open(batch.slots, batch.spans)
        plan = PagedPlan.of(
            batch.counts, spans, device=model.device, row_width=self._row_width, has_kernel=self._has_kernel
        )
        hidden = model.decode(embeds[None], position_ids=batch.position_ids[None], plan=plan, cache=cache)[0]  # [T, D]
        return model.logits(hidden.index_select(0, batch.logits_positions))


def _suits_kernel(model: VideoLM) -> bool:
    """Whether the compiled kernel is there for the model's device and heads."""
    decoder = model.model.config.decoder
    return model.device.type == "cpu" and decoder.head_width <= WIDEST_HEAD and has_attention()


def _row_dtype(name: CacheDtype, model: VideoLM, has_kernel: bool) -> torch.dtype:
    if name == "int8":
        return torch.int8
    # Without the kernel one query attends to float32 keys on a CPU several times faster than to bfloat16 ones.
    is_slow = model.device.type == "cpu" and not (has_kernel and model.dtype == torch.bfloat16)
    if name == "float32" or (name == "auto" and is_slow):
        return torch.float32
    return model.dtype


def cached_token_bytes(model: VideoLM, config: EngineConfig | None = None) -> int:
    """Memory of the keys and values of one token in all layers."""
    config = config or EngineConfig()
    decoder = model.model.config.decoder
    dtype = _row_dtype(config.cache_dtype, model, config.compiles_kernels and _suits_kernel(model))
    scale = 4 if dtype == torch.int8 else 0
    return 2 * decoder.num_hidden_layers * decoder.num_key_value_heads * (decoder.head_width * dtype.itemsize + scale)


def _num_blocks(config: EngineConfig, model: VideoLM) -> int:
    if config.num_blocks is not None:
        return config.num_blocks
    token_bytes = cached_token_bytes(model, config)
    block_bytes, limit = token_bytes * config.block_size, config.cache_bytes
    if limit is None:
        context_len = model.model.config.decoder.longest_context + config.block_size
        limit = min(config.max_running * context_len * token_bytes, int(free_bytes(model.device) * SHARE_OF_FREE))
    if limit < block_bytes:
        raise CapacityError(
            f"The cache has {limit} bytes, and one block of {config.block_size} tokens takes {block_bytes} for this "
            "model: at least one block is expected. Raise cache_bytes, or lower block_size."
        )
    return limit // block_bytes

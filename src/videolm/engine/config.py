"""How an engine divides memory and work: every number checked once, when it is set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from videolm.errors import ArgumentError
from videolm.generation.params import check_whole
from videolm.media.limits import MediaLimits
from videolm.media.sampling import FrameSampling

CacheDtype = Literal["auto", "model", "float32", "int8"]

__all__ = ["CacheDtype", "EngineConfig"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Settings of one engine; the defaults suit one person asking and a few users at once."""

    num_blocks: int | None = None
    """Blocks of the cache of keys and values; None: as many as ``cache_bytes`` hold."""
    cache_bytes: int | None = None
    """Memory for keys and values; None: a quarter of what is free, but no more than ``max_running`` whole contexts."""
    block_size: int = 16
    """Tokens in one block: what is handed out, shared and evicted at a time."""
    cache_dtype: CacheDtype = "auto"
    """How keys and values are stored: ``auto`` is the model's dtype, but float32 on a CPU where there is no kernel for
    it (see ``compiles_kernels``); ``int8`` takes a quarter of float32's memory and rounds."""
    compiles_kernels: bool = True
    """Whether attention of single tokens on a CPU uses a kernel that the machine's C compiler makes, once for each user
    and processor. Without a compiler, or where this is False, PyTorch's own operations do it, half as fast."""
    reuses_prefixes: bool = True
    """Whether prompts that begin like earlier ones start where they differ."""
    lays_out_weights: bool = True
    """Whether a model in bfloat16 on a CPU has its linear layers laid out for the processor, in place: the same results
    sooner, and weights that are not trained any more."""
    lays_out_at_once: bool = False
    """Whether they are laid out before the engine is there; else each is as it is first used, and the engine is there
    at once."""
    cuda_graphs: bool | None = None
    """Whether steps in which every answer goes on by one token are captured and replayed as CUDA graphs; None: on a
    CUDA device, where the cache is not in int8 and the model can be captured."""
    max_batch_tokens: int = 2048
    """Most tokens computed in one step: long prompts are read in pieces of it, so that running answers go on."""
    max_batch_patches: int | None = None
    """Most patches of frames and pictures encoded in one step, but for a single medium, which may have more: so that
    running answers go on. None: 2048 on a CPU, where more at a time are encoded no faster, and 65536 elsewhere."""
    max_running: int = 64
    """Most requests computed at once; further ones wait."""
    feature_bytes: int = 1 << 30
    """Memory for encoded pictures and videos where the engine keeps them itself."""
    draft_len: int = 0
    """Tokens guessed from the text so far and checked in one step; 0 for none. The answer stays the same."""
    draft_ngram: int = 3
    """Guess what followed the last so many tokens when they stood in the text before."""
    sampling: FrameSampling = field(default_factory=FrameSampling)
    """How frames are chosen of videos that messages name by their source."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """What such a medium may cost."""
    num_preparers: int = 2
    """Threads that read such media while the model works."""
    max_prepared: int = 8
    """Most requests whose media are read, or being read, ahead of the model."""

    def __post_init__(self) -> None:
        for name in ("block_size", "max_batch_tokens", "max_running", "draft_ngram", "num_preparers", "max_prepared"):
            check_whole(name, getattr(self, name), 1)
        for name in ("num_blocks", "cache_bytes", "max_batch_patches"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1, hint="Leave it out to have it chosen.")
        check_whole("draft_len", self.draft_len, 0, hint="Use 0 to guess nothing.")
        check_whole("feature_bytes", self.feature_bytes, 0)
        if self.num_blocks is not None and self.cache_bytes is not None:
            raise ArgumentError(
                f"num_blocks is {self.num_blocks} and cache_bytes {self.cache_bytes}: both say how large the cache is. "
                "Give one of them."
            )
        if self.cache_dtype not in get_args(CacheDtype):
            raise ArgumentError(
                f"cache_dtype is {self.cache_dtype!r}: expected one of {', '.join(get_args(CacheDtype))}. "
                "Choose one of these."
            )
        if self.cuda_graphs and self.cache_dtype == "int8":
            raise ArgumentError(
                "cuda_graphs is True but cache_dtype is 'int8': graphs read keys and values as they are, so another "
                "cache_dtype is expected. Leave cuda_graphs out, or choose another cache_dtype."
            )
        if self.max_running > self.max_batch_tokens:
            raise ArgumentError(
                f"max_running is {self.max_running} but max_batch_tokens is {self.max_batch_tokens}: every running "
                "request takes at least one token a step. Raise max_batch_tokens or lower max_running."
            )

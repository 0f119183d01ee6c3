"""Parameters at the start: drawn as the families' reference classes draw them, or none at all before a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from videolm.models.backbone import Backbone
from videolm.models.video_lm import VideoLM
from videolm.models.vit import VisionTransformer

__all__ = ["initialise", "without_values"]


class _NoDraws(TorchFunctionMode):
    """Leaves tensors that ``torch.nn.init`` is to fill as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Modules made here have shapes and no values.

    Drawing on the meta device changes nothing, but makes torch import its compiler: a second and 60 MB.
    """
    with torch.device("meta"), _NoDraws():
        yield


@torch.no_grad()
def initialise(model: VideoLM | Backbone) -> None:
    """Draw all parameters anew from torch's random state: a model that is to be trained from the start.

    Norms keep ones and zeros, biases become zero. In the tower the deviation follows from the widths, as in CLIP;
    elsewhere it is ``initializer_range``.
    """
    backbone = model.model if isinstance(model, VideoLM) else model
    settings = backbone.config
    _draw_all(model, settings.decoder.initializer_range)
    for tower in backbone.towers:
        _draw_tower(tower)
    for vector in (backbone.image_newline, backbone.faster_token):
        if vector is not None:
            nn.init.normal_(vector, std=settings.decoder.hidden_size**-0.5)


def _draw_tower(tower: VisionTransformer) -> None:
    vision = tower.config
    width, depth = vision.hidden_size, vision.num_hidden_layers
    _draw_all(tower.embeddings, vision.initializer_range)
    if vision.class_token:
        nn.init.normal_(tower.embeddings.class_embedding, std=width**-0.5)
    inner = (width * 2 * depth) ** -0.5
    attention = (("q_proj", inner), ("k_proj", inner), ("v_proj", inner), ("out_proj", width**-0.5))
    for layer in tower.encoder.layers:
        for part in ("self_attn",) if vision.temporal_frames is None else ("self_attn", "temporal_attn"):
            for name, std in attention:
                nn.init.normal_(layer.get_parameter(f"{part}.{name}.weight"), std=std)
        if vision.temporal_frames is not None:
            nn.init.normal_(layer.get_parameter("temporal_embedding"), std=width**-0.5)
        nn.init.normal_(layer.get_parameter("mlp.fc1.weight"), std=(2 * width) ** -0.5)
        nn.init.normal_(layer.get_parameter("mlp.fc2.weight"), std=inner)


def _draw_all(root: nn.Module, std: float) -> None:
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias.zero_()

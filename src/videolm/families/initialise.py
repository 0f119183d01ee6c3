"""A model in, the same model with random parameters out, drawn as the families' reference classes draw them."""

from __future__ import annotations

import torch
from torch import nn

from videolm.models.video_lm import VideoLM

__all__ = ["initialise"]


@torch.no_grad()
def initialise(model: VideoLM) -> None:
    """Draw all parameters anew from torch's random state: a model that is to be trained from the start.

    Norms keep ones and zeros, biases become zero. In the tower the deviation follows from the widths, as in CLIP;
    elsewhere it is ``initializer_range``.
    """
    backbone = model.model
    settings = backbone.config
    _draw_all(model, settings.decoder.initializer_range)
    vision = settings.vision
    width, depth = vision.hidden_size, vision.num_hidden_layers
    tower = backbone.vision_tower
    _draw_all(tower.embeddings, vision.initializer_range)
    if vision.class_token:
        tower.embeddings.class_embedding.normal_(std=width**-0.5)
    for layer in tower.encoder.layers:
        inner = (width * 2 * depth) ** -0.5
        for name, std in (("q_proj", inner), ("k_proj", inner), ("v_proj", inner), ("out_proj", width**-0.5)):
            layer.get_parameter(f"self_attn.{name}.weight").normal_(std=std)
        layer.get_parameter("mlp.fc1.weight").normal_(std=(2 * width) ** -0.5)
        layer.get_parameter("mlp.fc2.weight").normal_(std=inner)
    if backbone.image_newline is not None:
        backbone.image_newline.normal_(std=settings.decoder.hidden_size**-0.5)


def _draw_all(root: nn.Module, std: float) -> None:
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            module.weight.normal_(std=std)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias.zero_()

"""A vision transformer: normalised pixels in, the hidden states of selected layers out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from videolm.models.attention import FullPlan
from videolm.models.config import VisionConfig
from videolm.models.layers import LayerNorm, activation

__all__ = ["VisionBlock", "VisionTransformer"]


class PatchEmbedding(nn.Conv2d):
    """A convolution whose windows do not overlap, computed as one matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        """Embed pixels ``[F, C, H, W]`` as ``[F, grid * grid, E]``."""
        num_frames, channels, height, width = input.shape
        size = self.kernel_size[0]
        rows, columns = height // size, width // size
        windows = input[:, :, : rows * size, : columns * size].view(num_frames, channels, rows, size, columns, size)
        patches = windows.permute(0, 2, 4, 1, 3, 5).reshape(num_frames, rows * columns, channels * size * size)
        return functional.linear(patches, self.weight.flatten(1), self.bias)


class VisionEmbeddings(nn.Module):
    """Patches, the class token before them if there is one, and learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        if config.class_token:
            self.class_embedding = nn.Parameter(nn.init.normal_(torch.empty(config.hidden_size)))
        self.has_class_token = config.class_token
        self.patch_embedding = PatchEmbedding(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size, bias=config.patch_bias
        )
        self.position_embedding = nn.Embedding(config.num_positions, config.hidden_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed ``[F, C, H, W]`` as ``[F, P, E]``."""
        patches: Tensor = self.patch_embedding(pixel_values)
        positions = self.position_embedding.weight
        if not self.has_class_token:
            return patches + positions
        first = (self.class_embedding + positions[0]).expand(len(patches), 1, -1)
        rest = patches + positions[1:]
        return torch.cat([first.to(rest.dtype), rest], dim=1)


class VisionAttention(nn.Module):
    """Attention among the tokens of one tile or frame."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.head_width = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix ``[F, P, E]`` along ``P``."""
        heads = (-1, self.head_width)
        queries = self.q_proj(hidden).unflatten(-1, heads)  # [F, P, A, head]
        keys = self.k_proj(hidden).unflatten(-1, heads)
        values = self.v_proj(hidden).unflatten(-1, heads)
        mixed: Tensor = self.out_proj(FullPlan().attend(queries, keys, values).flatten(2))
        return mixed


class VisionMLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.activation = activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Treat each token by itself."""
        out: Tensor = self.fc2(self.activation(self.fc1(hidden)))
        return out


class VisionBlock(nn.Module):
    """Attention and MLP, each after a norm and added to what came in; before them attention over time, where set."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.temporal_frames = config.temporal_frames
        if config.temporal_frames is not None:
            shape = (1, config.temporal_frames, config.hidden_size)
            self.temporal_embedding = nn.Parameter(nn.init.normal_(torch.empty(shape)))
            self.temporal_layer_norm1 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.temporal_attn = VisionAttention(config)
        self.layer_norm1 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """One layer on ``[F, P, E]``."""
        if self.temporal_frames is not None:
            hidden = self._mix_frames(hidden, self.temporal_frames)
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        out: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return out

    def _mix_frames(self, hidden: Tensor, group: int) -> Tensor:
        """Let each place of a frame attend to the same place of the ``group`` frames around it."""
        num_frames, num_places, width = hidden.shape
        clips = hidden.view(-1, group, num_places, width).transpose(1, 2)  # [F / group, P, group, E]
        series = clips.reshape(-1, group, width)
        if group > 1:  # A single step has no place in time.
            series = series + self.temporal_embedding
        series = series + self.temporal_attn(self.temporal_layer_norm1(series))
        clips = series.view(-1, num_places, group, width).transpose(1, 2)  # [F / group, group, P, E]
        mixed: Tensor = clips.reshape(num_frames, num_places, width)
        return mixed


class VisionEncoder(nn.Module):
    """The layers; a container, because the parameters are called ``encoder.layers.N``."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))


class VisionTransformer(nn.Module):
    """The tower of one model."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = VisionEmbeddings(config)
        if config.pre_norm:
            self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = VisionEncoder(config)
        if config.post_norm:
            self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor, layer_indices: Sequence[int]) -> tuple[Tensor, ...]:
        """Run the layers that are needed.

        Args:
            pixel_values: ``[F, C, H, W]``; a multiple of ``temporal_frames`` of them, where that is set.
            layer_indices: Hidden states wanted, from 0 (the input of the first layer) to the number of layers.

        Returns:
            For each index ``[F, P, E]``; no norm after the last layer.
        """
        hidden: Tensor = self.embeddings(pixel_values)
        if self.config.pre_norm:
            hidden = self.pre_layrnorm(hidden)
        states = {0: hidden}
        for index in range(max(layer_indices)):
            hidden = self._run(self.encoder.layers[index], hidden)
            if index + 1 in layer_indices:
                states[index + 1] = hidden
        return tuple(states[index] for index in layer_indices)

    def _run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, hidden, use_reentrant=False)
            return recomputed
        out: Tensor = block(hidden)
        return out

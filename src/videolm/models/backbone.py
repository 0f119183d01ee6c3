"""Tower, projector and decoder without the head: media to features, ids and features to embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from videolm.contracts import Features, VisualInput
from videolm.errors import PlaceholderMismatchError, ProcessingError
from videolm.models.config import VideoLMConfig
from videolm.models.decoder import Decoder
from videolm.models.fusion import ConvPool, Projector, lay_out_image, lay_out_video, pool_patches, select_features
from videolm.models.vit import VisionTransformer

__all__ = ["Backbone"]

# Widest activation of a tower call, in bytes, that still lives in a CPU's last-level cache.
_CACHE_BYTES = 10_000_000


class Backbone(nn.Module):
    """The part of a model that its files call ``model``."""

    def __init__(self, config: VideoLMConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionTransformer(config.vision)
        self.multi_modal_projector = Projector(config.fusion, config.feature_width, config.decoder.hidden_size)
        video = config.tokens.video
        self.vision_resampler: ConvPool | None = None
        if video.pool == "conv":
            is_before = config.fusion.pool_position == "before_projector"
            width = config.feature_width if is_before else config.decoder.hidden_size
            self.vision_resampler = ConvPool(width, video.stride)
        self.image_newline: nn.Parameter | None = None
        if config.fusion.image_newline:
            width = config.decoder.hidden_size
            self.image_newline = nn.Parameter(torch.randn(width) / width**0.5)
        self.language_model = Decoder(config.decoder)

    def encode_media(
        self, media: Sequence[VisualInput], *, max_tiles_per_batch: int | None = None
    ) -> tuple[Features, ...]:
        """Encode all tiles and frames of all media together.

        Args:
            media: Pictures and videos in any order.
            max_tiles_per_batch: Most tiles in one call of the tower. None: all of them while gradients are recorded;
                otherwise as many as suit the device.

        Returns:
            One ``Features`` a medium, in order.
        """
        for index, medium in enumerate(media):
            self._check(index, medium)
        if not media:
            return ()
        # Pictures first, so that one place in the row of all tiles separates the kinds.
        order = sorted(range(len(media)), key=lambda index: media[index].kind == "video")
        pixels = torch.cat([media[index].pixel_values for index in order])
        num_image_tiles = sum(len(medium.pixel_values) for medium in media if medium.kind == "image")
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        size = max_tiles_per_batch or self._tiles_per_batch(len(pixels))
        for start in range(0, len(pixels), size):
            self._encode_tiles(pixels[start : start + size], num_image_tiles - start, parts)
        features: dict[int, Features] = {}
        for kind, chunks in zip(("image", "video"), parts, strict=True):
            indices = [index for index in order if media[index].kind == kind]
            sizes = [len(media[index].pixel_values) for index in indices]
            for index, tiles in zip(indices, torch.split(torch.cat(chunks), sizes) if chunks else (), strict=True):
                features[index] = Features(tokens=self._lay_out(media[index], tiles))
        return tuple(features[index] for index in range(len(media)))

    def embed(self, input_ids: Tensor, visual_positions: Tensor, features: Sequence[Features]) -> Tensor:
        """Look ids up and put features in the place of placeholders.

        Args:
            input_ids: ``[..., T]``; ids at visual positions are never looked up.
            visual_positions: ``[num visual tokens]`` ascending positions in the flattened ids.
            features: In order of appearance.

        Returns:
            ``[..., T, D]``.
        """
        num_rows = sum(len(feature.tokens) for feature in features)
        if num_rows != len(visual_positions):
            raise PlaceholderMismatchError(
                f"The media give {num_rows} visual tokens but the prompt holds {len(visual_positions)} placeholders: "
                "there must be one placeholder for each token. Prepare prompt and media with this model's processor."
            )
        table = self.language_model.embed_tokens
        flat = input_ids.flatten()
        if not num_rows:
            looked_up: Tensor = table(input_ids)
            return looked_up
        embeds: Tensor = table(flat.index_fill(0, visual_positions, 0))
        rows = torch.cat([feature.tokens.to(embeds.device, embeds.dtype) for feature in features])
        return embeds.index_copy(0, visual_positions, rows).view(*input_ids.shape, -1)

    def _encode_tiles(self, pixels: Tensor, num_image_tiles: int, parts: tuple[list[Tensor], list[Tensor]]) -> None:
        """Encode one batch of tiles, of which the first ``num_image_tiles`` are of pictures, into ``parts``."""
        weight = self.vision_tower.embeddings.patch_embedding.weight
        states = self.vision_tower(pixels.to(weight.device, weight.dtype), self.config.feature_indices)
        split = min(max(num_image_tiles, 0), len(pixels))
        if split:
            parts[0].append(self._project([state[:split] for state in states], is_video=False))
        if split < len(pixels):
            parts[1].append(self._project([state[split:] for state in states], is_video=True))

    def _project(self, states: list[Tensor], *, is_video: bool) -> Tensor:
        """Select, pool (videos) and project ``[F, P, E]`` hidden states to ``[F, tokens a frame, D]``."""
        image, video = self.config.tokens.image, self.config.tokens.video
        keep = video.keep_class_token if is_video else image.keep_class_token
        features = select_features(states, drop_class_token=self.config.vision.class_token and not keep)
        pools_first = self.config.fusion.pool_position == "before_projector"
        if is_video and pools_first:
            features = pool_patches(features, video, self.vision_resampler)
        features = self.multi_modal_projector(features)
        if is_video and not pools_first:
            features = pool_patches(features, video, self.vision_resampler)
        return features

    def _lay_out(self, medium: VisualInput, features: Tensor) -> Tensor:
        if medium.kind == "video":
            return lay_out_video(features, self.config.tokens.video, self.image_newline)
        return lay_out_image(features, self.config.tokens.image.layout(*medium.size), self.image_newline)

    def _tiles_per_batch(self, num_tiles: int) -> int:
        weight = self.vision_tower.embeddings.patch_embedding.weight
        if torch.is_grad_enabled() or weight.device.type != "cpu":
            return num_tiles
        vision = self.config.vision
        tile_bytes = vision.num_positions * vision.intermediate_size * weight.element_size()
        return max(1, _CACHE_BYTES // tile_bytes)

    def _check(self, index: int, medium: VisualInput) -> None:
        """Refuse a medium that another model's processor prepared, before anything is computed."""
        size, channels = self.config.vision.image_size, self.config.vision.num_channels
        shape = tuple(medium.pixel_values.shape)
        if len(shape) != 4 or shape[1:] != (channels, size, size) or not shape[0]:
            raise ProcessingError(
                f"Medium {index} has pixels of shape {list(shape)}: this model takes "
                f"[tiles or frames, {channels}, {size}, {size}]. Prepare media with this model's processor."
            )
        tokens = self.config.tokens
        if medium.kind == "video":
            count, num_tiles = tokens.video.count(shape[0]), shape[0]
        else:
            layout = tokens.image.layout(*medium.size)
            count, num_tiles = layout.count, layout.num_tiles
        if count != medium.num_tokens or num_tiles != shape[0]:
            raise PlaceholderMismatchError(
                f"Medium {index} ({medium.kind}, {shape[0]} tiles or frames) was prepared for {medium.num_tokens} "
                f"visual tokens, but this model makes {count} of {num_tiles}: processor and model disagree about "
                "the layout. Load both from the same folder."
            )

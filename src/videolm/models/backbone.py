"""Tower, projector and decoder without the head: media to features, ids and features to embeddings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from videolm.contracts import Features, MediaKind, VisualInput
from videolm.errors import PlaceholderMismatchError, ProcessingError
from videolm.models.config import VideoLMConfig
from videolm.models.decoder import Decoder
from videolm.models.fusion import (
    ConvPool,
    Projector,
    lay_out_image,
    lay_out_slow_fast,
    lay_out_video,
    pool_patches,
    select_features,
)
from videolm.models.reduction import reduce_video
from videolm.models.vit import VisionTransformer
from videolm.visual_tokens import VideoTokens

__all__ = ["Backbone"]

# Widest activation of a tower call, in bytes, that still lives in a CPU's last-level cache.
_CACHE_BYTES = 10_000_000


class Backbone(nn.Module):
    """The part of a model that its files call ``model``."""

    def __init__(self, config: VideoLMConfig) -> None:
        super().__init__()
        self.config = config
        if config.video_vision is None:
            self.vision_tower = VisionTransformer(config.vision)
        else:
            self.video_tower = VisionTransformer(config.video_vision)
            self.image_tower = VisionTransformer(config.vision)
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
            self.image_newline = nn.Parameter(nn.init.normal_(torch.empty(width), std=width**-0.5))
        self.faster_token: nn.Parameter | None = None
        if config.fusion.faster_token:
            width = config.decoder.hidden_size
            self.faster_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=width**-0.5))
        self.language_model = Decoder(config.decoder)

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The tower of both kinds, or that of pictures and that of videos."""
        if self.config.video_vision is None:
            return (self.vision_tower,)
        return (self.image_tower, self.video_tower)

    def encode_media(
        self, media: Sequence[VisualInput], *, max_tiles_per_batch: int | None = None
    ) -> tuple[Features, ...]:
        """Encode all tiles and frames of all media together.

        Args:
            media: Pictures and videos in any order; of one that was encoded before, the features are given back.
            max_tiles_per_batch: Most tiles in one call of the tower, but at least the frames that attend to each
                other. None: all of them while gradients are recorded; otherwise as many as suit the device.

        Returns:
            One ``Features`` a medium, in order.
        """
        features: dict[int, Features] = {}
        alike: dict[int | None, list[int]] = {}  # by how their frames are pooled
        for index, medium in enumerate(media):
            if medium.features is not None:
                features[index] = self._checked(index, medium, medium.features)
                continue
            self._check(index, medium)
            alike.setdefault(medium.budget.stride, []).append(index)
        for indices in alike.values():
            encoded = self._encode_alike([media[index] for index in indices], max_tiles_per_batch)
            features |= zip(indices, encoded, strict=True)
        return tuple(features[index] for index in range(len(media)))

    def _encode_alike(self, media: Sequence[VisualInput], max_tiles_per_batch: int | None) -> tuple[Features, ...]:
        video = self.config.tokens.video.within(media[0].budget)
        # Pictures first, so that one place in the row of all tiles separates the kinds.
        order = sorted(range(len(media)), key=lambda index: media[index].kind == "video")
        pixels = torch.cat([media[index].pixel_values for index in order])
        num_image_tiles = sum(len(medium.pixel_values) for medium in media if medium.kind == "image")
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        size = max_tiles_per_batch or self._tiles_per_batch(len(pixels))
        for start, end in self._calls(num_image_tiles, len(pixels), size):
            self._encode_tiles(pixels[start:end], num_image_tiles - start, parts, video)
        features: dict[int, Features] = {}
        for kind, chunks in zip(("image", "video"), parts, strict=True):
            indices = [index for index in order if media[index].kind == kind]
            sizes = [len(media[index].pixel_values) for index in indices]
            for index, tiles in zip(indices, torch.split(torch.cat(chunks), sizes) if chunks else (), strict=True):
                features[index] = Features(tokens=self._lay_out(media[index], tiles))
        return tuple(features[index] for index in range(len(media)))

    def blank_media(self, present: Collection[MediaKind]) -> list[VisualInput]:
        """Small black media for every tower that media of the ``present`` kinds leave out."""
        vision, tokens = self.config.vision, self.config.tokens
        side = (vision.image_size, vision.image_size)
        blank: list[VisualInput] = []
        if self.config.video_vision is not None and "image" not in present:
            layout = tokens.image.layout(*side)
            pixels = torch.zeros(layout.num_tiles, vision.num_channels, *side)
            blank.append(VisualInput(kind="image", pixel_values=pixels, size=side, num_tokens=layout.count))
        if not present or (self.config.video_vision is not None and "video" not in present):
            pixels = torch.zeros(self.config.vision_of("video").temporal_frames or 1, vision.num_channels, *side)
            num_tokens = tokens.video.count(len(pixels))
            blank.append(VisualInput(kind="video", pixel_values=pixels, size=side, num_tokens=num_tokens))
        return blank

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

    def _calls(self, num_image_tiles: int, num_tiles: int, size: int) -> list[tuple[int, int]]:
        """First and last tile of each call of a tower, at most ``size`` tiles or one group of frames in each."""
        if self.config.video_vision is None:
            return [(start, min(start + size, num_tiles)) for start in range(0, num_tiles, size)]
        group = self.config.video_vision.temporal_frames or 1
        video_size = max(size // group, 1) * group
        images = [(start, min(start + size, num_image_tiles)) for start in range(0, num_image_tiles, size)]
        starts = range(num_image_tiles, num_tiles, video_size)
        return images + [(start, min(start + video_size, num_tiles)) for start in starts]

    def _encode_tiles(
        self, pixels: Tensor, num_image_tiles: int, parts: tuple[list[Tensor], list[Tensor]], video: VideoTokens
    ) -> None:
        """Encode one batch of tiles, of which the first ``num_image_tiles`` are of pictures, into ``parts``."""
        tower = self.towers[0] if num_image_tiles > 0 else self.towers[-1]
        weight = tower.embeddings.patch_embedding.weight
        states = tower(pixels.to(weight.device, weight.dtype), self.config.feature_indices)
        split = min(max(num_image_tiles, 0), len(pixels))
        if split:
            parts[0].append(self._project([state[:split] for state in states], None))
        if split < len(pixels):
            parts[1].append(self._project([state[split:] for state in states], video))

    def _project(self, states: list[Tensor], video: VideoTokens | None) -> Tensor:
        """Select, pool (``video``) and project ``[F, P, E]`` hidden states to ``[F, tokens a frame, D]``."""
        keep = (video or self.config.tokens.image).keep_class_token
        features = select_features(states, drop_class_token=self.config.vision.class_token and not keep)
        pools_first = self.config.fusion.pool_position == "before_projector"
        if video is not None and pools_first:
            features = pool_patches(features, video, self.vision_resampler)
        features = self.multi_modal_projector(features)
        if video is not None and not pools_first and video.slow_every is None:
            features = pool_patches(features, video, self.vision_resampler)
        return features

    def _lay_out(self, medium: VisualInput, features: Tensor) -> Tensor:
        if medium.kind == "image":
            return lay_out_image(features, self.config.tokens.image.layout(*medium.size), self.image_newline)
        rules = self.config.tokens.video.within(medium.budget)
        if self.faster_token is not None:
            rows = lay_out_slow_fast(features, rules, self.image_newline, self.faster_token)
        else:
            rows = lay_out_video(features, rules, self.image_newline)
        return reduce_video(rows, medium.pixel_values, rules)

    def _tiles_per_batch(self, num_tiles: int) -> int:
        weight = self.towers[0].embeddings.patch_embedding.weight
        if torch.is_grad_enabled() or weight.device.type != "cpu":
            return num_tiles
        vision = self.config.vision
        tile_bytes = vision.num_positions * vision.intermediate_size * weight.element_size()
        return max(1, _CACHE_BYTES // tile_bytes)

    def _checked(self, index: int, medium: VisualInput, features: Features) -> Features:
        wanted = (medium.num_tokens, self.config.decoder.hidden_size)
        if tuple(features.tokens.shape) != wanted:
            raise PlaceholderMismatchError(
                f"Medium {index} comes with features of shape {list(features.tokens.shape)}, but {list(wanted)} are "
                "expected of this model. Encode it with this model."
            )
        return features

    def _check(self, index: int, medium: VisualInput) -> None:
        """Refuse a medium that another model's processor prepared, before anything is computed."""
        size, channels = self.config.vision.image_size, self.config.vision.num_channels
        shape = tuple(medium.pixel_values.shape)
        if len(shape) != 4 or shape[1:] != (channels, size, size) or not shape[0]:
            raise ProcessingError(
                f"Medium {index} has pixels of shape {list(shape)}: this model takes "
                f"[tiles or frames, {channels}, {size}, {size}]. Prepare media with this model's processor."
            )
        group = self.config.vision_of(medium.kind).temporal_frames
        if group is not None and shape[0] % group:
            raise ProcessingError(
                f"Medium {index} is a video of {shape[0]} frames, but this model compares frames in groups of {group}: "
                f"expected a multiple of {group}. Take {group} frames of a video that has as many."
            )
        tokens = self.config.tokens
        if medium.kind == "video":
            count, num_tiles = tokens.video.within(medium.budget).count(shape[0]), shape[0]
        else:
            layout = tokens.image.layout(*medium.size)
            count, num_tiles = layout.count, layout.num_tiles
        if count != medium.num_tokens or num_tiles != shape[0]:
            raise PlaceholderMismatchError(
                f"Medium {index} ({medium.kind}, {shape[0]} tiles or frames) was prepared for {medium.num_tokens} "
                f"visual tokens, but this model makes {count} of {num_tiles}: processor and model disagree about "
                "the layout. Load both from the same folder."
            )

"""Settings of pixels as attributes, read from files and written to them, each of which a call may replace."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from videolm.errors import ArgumentError, ConfigError
from videolm.families.json_config import read_json, write_json
from videolm.families.processor_files import folder_of, image_settings
from videolm.processing.picture_arrays import channel_format, layout_of, read_pictures
from videolm.processing.pixels import Backend, PixelSettings, fit_frame

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_NOT_SETTINGS = ("processor_class", "image_processor_type", "video_processor_type", "feature_extractor_type")
PIXEL_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
    "do_convert_rgb": True,
}

__all__ = ["PIXEL_DEFAULTS", "PixelPart"]


class PixelPart:
    """Settings as attributes, each of which a call may replace."""

    order: ClassVar[tuple[str, ...]] = tuple(PIXEL_DEFAULTS)
    """Of arguments without a name, as the documentation gives it."""
    defaults: ClassVar[dict[str, Any]] = PIXEL_DEFAULTS
    backend: Backend = "torch"
    type_key: ClassVar[str] = "image_processor_type"
    file_name: ClassVar[str] = "preprocessor_config.json"
    size: dict[str, int]
    crop_size: dict[str, int]

    def __init__(self, *values: Any, **settings: Any) -> None:
        if len(values) > len(self.order):
            raise TypeError(f"{type(self).__name__} takes {len(self.order)} settings without a name")
        settings = {**dict(zip(self.order, values, strict=False)), **settings}
        self.change(self.defaults)
        self.configure({name: value for name, value in settings.items() if name not in _NOT_SETTINGS})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a file holds; keys that are no settings here are kept."""
        part = cls()
        part.change({name: value for name, value in values.items() if name not in (*_NOT_SETTINGS, *cls.defaults)})
        part.configure({name: value for name, value in values.items() if name in cls.defaults})
        return part

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replace settings for all calls to come, each of which this part must have; None leaves one as it is."""
        given = {name: value for name, value in settings.items() if value is not None}
        for name in given:
            if name != "use_fast" and not self.knows(name):
                raise self._unknown(name)
        if "use_fast" in given:
            given["backend"] = "torch" if given.pop("use_fast") else "pil"
        self.change(given)

    def change(self, settings: Mapping[str, Any]) -> None:
        """The same for any attributes, such as keys of files that are no settings here."""
        for name, value in settings.items():
            setattr(self, name, copy.deepcopy(value))
        self.size, self.crop_size = _size(self.size, square=False), _size(self.crop_size, square=True)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **settings: Any) -> Self:
        """From a model's folder or hub name, or from such a JSON file; ``settings`` replace what the file says."""
        path = Path(name_or_path)
        values = read_json(path) if path.is_file() else cls._settings_in(folder_of(name_or_path, settings))
        part = cls.from_dict(values)
        part.configure(settings)
        return part

    @classmethod
    def _settings_in(cls, folder: Path) -> dict[str, Any]:
        return image_settings(folder)

    def to_dict(self) -> dict[str, Any]:
        """What is written to the file."""
        values = {name: _plain(value) for name, value in vars(self).items() if not name.startswith("_")}
        return {**values, self.type_key: type(self).__name__}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the file that ``from_pretrained`` reads."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / self.file_name, self.to_dict())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    def pixel_settings(self, settings: Mapping[str, Any] | None = None) -> PixelSettings:
        """These settings, with those of one call in their place."""
        values = self.merged(settings or {})
        values["size"] = _size(values["size"], square=False)
        values["crop_size"] = _size(values["crop_size"], square=True)
        backend: Backend = values.get("backend", self.backend)
        try:
            found = PixelSettings.from_preprocessor(values, backend=backend)
        except (ArgumentError, ConfigError) as error:
            # Here they come from a call or an instance.
            advice = str(error).replace(" in preprocessor_config.json", "").replace("preprocessor_config.json", "it")
            raise ArgumentError(advice) from error
        return replace(found, fused=backend == "torch")

    def knows(self, name: str) -> bool:
        """Whether this is a setting of this part."""
        return name in vars(self) or name == "backend"

    def merged(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of one call; one that this part does not have is an error."""
        for name in settings:
            if not self.knows(name):
                raise self._unknown(name)
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**own, **{name: value for name, value in settings.items() if value is not None}}

    def _unknown(self, name: str) -> ArgumentError:
        near = difflib.get_close_matches(name, self.defaults, n=1)
        advice = f"Did you mean {near[0]}?" if near else f"It has {', '.join(self.defaults)}."
        return ArgumentError(f"{type(self).__name__} has no setting {name!r}: expected one of its own. {advice}")

    def resize(
        self, image: np.ndarray, size: Any, resample: Any = None, data_format: Any = None, input_data_format: Any = None
    ) -> np.ndarray:
        """One picture resized: by its shortest edge, or to a height and a width; otherwise it stays what it is.

        Args:
            size: ``{"shortest_edge": …}``, or ``{"height": …, "width": …}``.
            data_format: Where the channels go; None: where they were.
        """
        given = channel_format(input_data_format, "input_data_format") or layout_of(np.asarray(image))
        settings = self.pixel_settings({"size": size, "resample": resample, "do_resize": True, "do_center_crop": False})
        frame = fit_frame(read_pictures(np.asarray(image), given, rgb=False)[0], settings)
        wanted = channel_format(data_format) or given
        return np.moveaxis(frame, -1, 0) if wanted == "channels_first" else frame


def _size(size: Any, *, square: bool) -> Any:
    if isinstance(size, int) and not isinstance(size, bool):
        return {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(size, list | tuple) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    return dict(size) if isinstance(size, Mapping) else size


def _plain(value: Any) -> Any:
    """As JSON can hold it; enumerations of filters become their numbers."""
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value

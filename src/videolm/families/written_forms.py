"""A model's configuration and a layout's name in, what its files hold in that layout out, and what they cannot hold.

A folder means the same to this library and to the other readers of its layout: what these have no key for gets the
value that they take. It is lost where a file of some layout can say it, and else a convention that changes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videolm.errors import CheckpointError, ConfigError
from videolm.families.declaration import Family, FamilyConfig, Port
from videolm.families.json_config import JsonConfig, Key
from videolm.families.original_configs import from_original
from videolm.families.original_writing import to_original
from videolm.weights.files import WeightFiles
from videolm.weights.keymap import KeyLayout
from videolm.weights.rows import with_rows

_Difference = tuple[str, Any, Any]
"""The name of a setting, its value, and that which readers of the files take."""

__all__ = ["WrittenForm", "cannot_hold", "written_form"]

_TABLES = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_ROW_STEP = 64
_CONVENTIONS = ("round_unpad", "rope_policy")
"""What no file of another library says: its code settles it."""
_UNPADDED = "unpadded_vocab_size"
"""In ``text_config``: the rows of the table before some were added for placeholders."""


@dataclass(frozen=True, kw_only=True)
class WrittenForm:
    """What files in one layout hold of one model."""

    name: str
    key_layout: KeyLayout
    config: dict[str, Any]
    """The ``config.json``."""
    num_rows: int
    """Of the table of embeddings and the head."""
    lost_tensors: tuple[str, ...] = ()
    lost_settings: tuple[str, ...] = ()
    """Each with its value."""
    changed: tuple[str, ...] = ()
    """Conventions, each with its value here and there."""

    @property
    def lost(self) -> str:
        """What is lost, for people; empty if nothing is."""
        kinds = (("tensor", self.lost_tensors), ("setting", self.lost_settings))
        return " and ".join(_named(kind, names) for kind, names in kinds if names)

    def tensors(self, files: WeightFiles) -> WeightFiles:
        """Of the model's parameters, by their names in the module, those that are written."""
        kept = {name: name for name in files if name not in self.lost_tensors}
        tables = [name for name in _TABLES if name in kept]
        chosen = files.named(kept)
        if any(files.shape(name)[0] != self.num_rows for name in tables):
            chosen = with_rows(chosen, tables, self.num_rows)
        return chosen


def written_form(
    family: Family, config: FamilyConfig, layout: str | None, parameters: Collection[str], *, drop: bool = False
) -> WrittenForm:
    """What is written of a model; what cannot be is an error unless ``drop``.

    Args:
        layout: One of ``family.save_layouts``. None: the names of the first that holds all of the parameters, with
            all of the settings, some of which only this library reads.
        parameters: Names in the module.
    """
    if layout is None:
        return _whole_form(family, config, parameters)
    form = _form(family, config, layout, parameters)
    if form.lost and not drop:
        raise cannot_hold(form, family, config, parameters)
    return form


def cannot_hold(
    form: WrittenForm,
    family: Family,
    config: FamilyConfig,
    parameters: Collection[str],
    *,
    offered: Collection[str] | None = None,
) -> CheckpointError:
    """What to raise for a form that loses something.

    Args:
        offered: The layouts to choose from; None: all of the family.
    """
    able = []
    for name in family.save_layouts if offered is None else offered:
        with contextlib.suppress(CheckpointError):
            able += [] if _form(family, config, name, parameters).lost else [name]
    others = f"Save as {' or '.join(able)}, or drop" if able else "Drop"
    return CheckpointError(
        f"The layout {form.name} cannot hold {form.lost} of this model: other readers of such files would leave that "
        f"out or take another value. {others} it (drop=True, --drop)."
    )


def _whole_form(family: Family, config: FamilyConfig, parameters: Collection[str]) -> WrittenForm:
    name = next(name for name, layout in family.save_layouts.items() if not layout.left_out(parameters))
    if name == "original" and not (form := _form(family, config, name, parameters)).lost:
        return form
    return WrittenForm(name=name, key_layout=family.save_layouts[name], config=config.to_dict(), num_rows=_rows(config))


def _form(family: Family, config: FamilyConfig, layout: str, parameters: Collection[str]) -> WrittenForm:
    key_layout = family.save_layout(layout)
    differences: list[_Difference] = []
    if layout == "original":
        values, differences = _original(family, config)
        num_rows = values["vocab_size"]
    else:
        values = config.to_dict()
        if family.port is not None and layout != "memory":
            differences = _port(family.port, values, family.config_class.keys)
        num_rows = values["text_config"]["vocab_size"]
        if layout == "hf":
            _add_old_spellings(values)
    return WrittenForm(
        name=layout,
        key_layout=key_layout,
        config=values,
        num_rows=num_rows,
        lost_tensors=tuple(key_layout.left_out(parameters)),
        lost_settings=tuple(f"{name} {here!r}" for name, here, _ in differences if name not in _CONVENTIONS),
        changed=tuple(f"{name} {here!r} to {there!r}" for name, here, there in differences if name in _CONVENTIONS),
    )


# --- the ports ---


def _port(port: Port, values: dict[str, Any], keys: Mapping[str, Key]) -> list[_Difference]:
    """Make ``values`` what the port reads, and tell what that changes."""
    differences = []
    if values.get("pinpoint_order") == "width_height":
        _turn_pinpoints(values, "height_width")
    for name, allowed in port.takes.items():
        part, _, key = name.rpartition(".")
        holder = values[part] if part else values
        if holder.get(key) not in (None, *allowed):
            differences.append((name, holder[key], allowed[0]))
            holder[key] = allowed[0]
    if values.get("image_grid_pinpoints") == []:  # They had no meaning for pictures without tiles.
        values["image_grid_pinpoints"] = keys["image_grid_pinpoints"].default
    _make_room(values, [values[name] for name in port.placeholders])
    return differences


def _turn_pinpoints(values: dict[str, Any], order: str) -> None:
    values["image_grid_pinpoints"] = [list(pair)[::-1] for pair in values["image_grid_pinpoints"]]
    values["pinpoint_order"] = order


def _make_room(values: dict[str, Any], ids: Sequence[int]) -> None:
    """Ports look placeholders up in the table before they replace them, so it needs rows for them."""
    text = values["text_config"]
    if max(ids) < text["vocab_size"]:
        return
    text.setdefault(_UNPADDED, text["vocab_size"])
    text["vocab_size"] = math.ceil((max(ids) + 1) / _ROW_STEP) * _ROW_STEP
    if "vocab_size" in values:
        values["vocab_size"] = text["vocab_size"]


def _add_old_spellings(values: dict[str, Any]) -> None:
    """Old releases know one name of the dtype, and insist on two keys in ``rope_scaling``."""
    values["torch_dtype"] = values["dtype"]
    scaling = values["text_config"].get("rope_scaling")
    if scaling is not None:
        values["text_config"]["rope_scaling"] = {"type": scaling["type"], "factor": scaling["factor"]}


# --- the original code ---


def _original(family: Family, config: FamilyConfig) -> tuple[dict[str, Any], list[_Difference]]:
    values = to_original(config)
    values["vocab_size"] = getattr(getattr(config, "text_config"), _UNPADDED, None) or values["vocab_size"]  # noqa: B009
    try:
        read = from_original(values)
        back = family.config_class.from_dict(values) if read["model_type"] == family.model_type else config
    except ConfigError as error:
        raise CheckpointError(
            f"The layout original cannot hold this model, whose configuration the original code does not know: {error}"
        ) from error
    if read["model_type"] != family.model_type:
        raise CheckpointError(
            f"The layout original cannot hold this model: its files would be read as {read['model_type']}, not "
            f"{family.model_type}. Save as hf."
        )
    return values, _differences(config, back)


def _differences(config: FamilyConfig, back: FamilyConfig) -> list[_Difference]:
    """The settings that a file does not bring back."""
    values, others = ({"rope_policy": each.rope_policy} | each.to_dict() for each in (config, back))
    if values.get("pinpoint_order") == "height_width":
        _turn_pinpoints(values, "width_height")
    names = [*_meaningful(config), "rope_policy"]
    for part in ("vision_config", "text_config"):
        names += [f"{part}.{key}" for key in _meaningful(getattr(config, part)) if key not in _ELSEWHERE]
    both = ((name, _value_at(values, name), _value_at(others, name)) for name in names)
    return [(name, here, there) for name, here, there in both if here != there]


_ELSEWHERE = ("tie_word_embeddings", "vocab_size")


def _meaningful(config: JsonConfig) -> list[str]:
    keys = [name for name, key in config.keys.items() if key.has_meaning]
    return [*keys, "rope_parameters"] if hasattr(config, "rope_parameters") else keys


def _value_at(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values.get(key)
    return values


def _rows(config: FamilyConfig) -> int:
    return int(config.settings().decoder.vocab_size)


def _named(kind: str, names: Sequence[str]) -> str:
    listed = ", ".join(names[:2] if kind == "tensor" else names)
    return f"{len(names)} {kind}{'s' * (len(names) > 1)} ({listed}{', …' if kind == 'tensor' and names[2:] else ''})"

"""Take over a trained model as the bundled one: ``python -m videolm.mini.adopt EXPORT_FOLDER``.

Copies what a model folder needs, checks the limits of the bundled model (10 M parameters, 20 MB) and leaves the card,
which people write, where it is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from videolm.errors import CheckpointError
from videolm.families.auto import describe_folder

WEIGHTS = Path(__file__).parent / "weights"
MAX_PARAMETERS = 10_000_000
MAX_BYTES = 20_000_000
FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
)


def adopt(folder: str | Path, target: str | Path = WEIGHTS) -> None:
    """Copy the model in ``folder`` to ``target``; the weights come last, so that a broken copy never looks whole."""
    folder, target = Path(folder), Path(target)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}: the export of a training run is expected. "
            "Name the export folder inside the run's output_dir."
        )
    about = describe_folder(folder)
    size = (folder / "model.safetensors").stat().st_size
    if about["num_parameters"] > MAX_PARAMETERS or size > MAX_BYTES:
        raise CheckpointError(
            f"The model in {folder} has {about['num_parameters']} parameters in {size} bytes: at most "
            f"{MAX_PARAMETERS} and {MAX_BYTES} are bundled. Train a smaller one, or export it as bfloat16."
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        staged = target / f".{name}.new"
        shutil.copyfile(folder / name, staged)
        staged.replace(target / name)


if __name__ == "__main__":
    adopt(sys.argv[1])

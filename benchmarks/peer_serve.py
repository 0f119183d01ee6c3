"""The peer's server in its own environment: ``transformers serve``, made to answer about videos; see ``servers``.

As it is, 5.23.0 answers every request with a video by an error: it wants the sound of each, even from models that
cannot hear, and reads frames by torchcodec alone. Here it takes no sound and reads frames by PyAV, as ``load_video`` of
the same library does. Pictures are read by Pillow, as ``load_image`` does, since torchvision's own reader does not load
beside a torch for the CPU.
"""

from __future__ import annotations

import sys
from typing import Any

from peer import declare_operators


def take_videos() -> None:
    """Replace the three functions in which a request about media ends."""
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.utils import Modality
    from transformers.image_processing_backends import TorchvisionBackend
    from transformers.image_utils import load_image
    from transformers.video_processing_utils import BaseVideoProcessor
    from transformers.video_utils import load_video

    def fetch_videos(self: Any, urls: Any, sample_indices_fn: Any = None) -> Any:
        if isinstance(urls, list):
            return list(zip(*[fetch_videos(self, url, sample_indices_fn) for url in urls], strict=True))
        return load_video(urls, backend="pyav", sample_indices_fn=sample_indices_fn)

    def fetch_images(self: Any, urls: Any) -> Any:
        return [fetch_images(self, url) for url in urls] if isinstance(urls, list) else load_image(urls)

    setattr(ModelManager, "get_model_modality", staticmethod(lambda model, processor=None: Modality.VLM))  # noqa: B010
    setattr(BaseVideoProcessor, "fetch_videos", fetch_videos)  # noqa: B010
    setattr(TorchvisionBackend, "fetch_images", fetch_images)  # noqa: B010


def main() -> None:
    declare_operators()
    from transformers.cli.transformers import app

    take_videos()
    sys.argv[0] = "transformers"
    app(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()

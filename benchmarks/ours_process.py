"""Our side in a process of its own, for what only a fresh one shows: memory, loading. Started by ``peers.Apart``."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from worker_loop import anonymous_bytes, answer_lines

START = time.perf_counter()


class Ours:
    """One model in one dtype, with its engine."""

    def __init__(self, folder: str, dtype: str, threads: int) -> None:
        import engine_ours
        import torch

        from videolm.engine.config import EngineConfig

        torch.set_num_threads(threads)
        config = EngineConfig(reuses_prefixes=False, feature_bytes=0)
        self.ours = engine_ours.Ours(Path(folder), dtype=dtype, config=config)

    def generate(self, *, ids: list[list[int]], max_new_tokens: int) -> dict[str, Any]:
        """An answer to a prompt of text."""
        from videolm.contracts import ModelInputs

        found, times = self.ours.generate(ModelInputs(input_ids=tuple(ids[0])), max_new_tokens)
        return {"ids": [found], "times_s": times}

    def ask(self, *, path: str, text: str, num_frames: int, max_new_tokens: int) -> dict[str, Any]:
        """From a file to an answer."""
        ids, times = self.ours.ask(Path(path), num_frames, max_new_tokens, text)
        return {"ids": [ids], "times_s": times, "total_s": times[-1]}

    def ask_batch(self, *, paths: list[str], texts: list[str], num_frames: int, max_new_tokens: int) -> dict[str, Any]:
        """Several videos, none of which is taken for another even where the file is the same."""
        from engine_ours import greedy, messages

        from videolm.engine.request import Request

        start = time.perf_counter()
        requests = [
            Request(
                id=(name := self.ours.new_id()),
                messages=messages(text),
                media=(self.ours.read(Path(path), num_frames),),
                media_keys=(name,),
                params=greedy(max_new_tokens),
            )
            for path, text in zip(paths, texts, strict=True)
        ]
        outputs = self.ours.engine.generate(requests)
        for output in outputs:
            if output.error is not None:
                raise output.error
        return {"ids": [list(output.output_ids) for output in outputs], "total_s": time.perf_counter() - start}

    def read(self, *, path: str, num_frames: int) -> dict[str, Any]:
        """The frames alone."""
        from videolm.media.load import load_media
        from videolm.media.sampling import FrameSampling

        start = time.perf_counter()
        frames = load_media(path, sampling=FrameSampling(rule="arange", num_frames=num_frames))
        taken = time.perf_counter() - start
        return {"total_s": taken, "sha256": hashlib.sha256(b"".join(f.tobytes() for f in frames.pixels)).hexdigest()}

    def index(self, *, path: str) -> dict[str, Any]:
        """Every packet's header: what must be read of a file to know where its frames are."""
        import av

        start = time.perf_counter()
        with av.open(path) as container:
            count = sum(1 for packet in container.demux(video=0) if packet.size)
        return {"total_s": time.perf_counter() - start, "packets": count}


def load(**settings: Any) -> tuple[Ours, dict[str, Any]]:
    """Imports, then weights, laid out and ready to answer."""
    import engine_ours  # noqa: F401

    loading, imported = time.perf_counter(), anonymous_bytes(os.getpid())
    ours = Ours(**settings)
    now = time.perf_counter()
    return ours, {"import_s": loading - START, "load_s": now - loading, "imported_bytes": imported}


if __name__ == "__main__":
    answer_lines(load)

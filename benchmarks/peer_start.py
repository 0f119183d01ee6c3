"""The peer's answer from a cold process, token by token: model, dtype, video, prompt, frames and tokens in."""

from __future__ import annotations

import os
import sys
from typing import Any

from peer import load


class Printer:
    """A streamer that shows each token at once, as our command line does; the library's own waits for a word's end."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._ids, self._shown = tokenizer, list[int](), 0
        self._saw_prompt = False

    def put(self, value: Any) -> None:
        if self._saw_prompt:
            self._ids += value.tolist()
            text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
            print(text[self._shown :], end="", flush=True)
            self._shown = len(text)
        self._saw_prompt = True

    def end(self) -> None:
        print()


def main() -> None:
    folder, dtype, video, prompt, num_frames, num_new = sys.argv[1:]
    peer, _ = load(folder=folder, dtype=dtype, threads=os.cpu_count())
    inputs: dict[str, Any] = peer._read([video], [prompt], [int(num_frames)])
    streamer = Printer(peer.reader().tokenizer)
    with peer.torch.inference_mode():
        peer.model.generate(**inputs, do_sample=False, max_new_tokens=int(num_new), pad_token_id=0, streamer=streamer)


if __name__ == "__main__":
    main()

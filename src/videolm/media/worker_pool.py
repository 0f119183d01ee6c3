"""Media in, frames out, decoded in other processes: a file that hangs or kills a decoder costs one source."""

from __future__ import annotations

import base64
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from io import FileIO
from types import TracebackType
from typing import Any, Literal

import numpy as np
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import EngineError, MediaError, MediaLimitError
from videolm.media.fork_server import Decoder, ForkServer
from videolm.media.held_file import HeldFile
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.media.source import OpenedSource, Progress, open_source
from videolm.media.worker_answer import read_answer
from videolm.media.worker_wire import WireError, receive, send, set_timeout

__all__ = ["DecodePool"]

MAX_SOURCES = 256
"""A decoder makes way for a new one after so many media: libraries keep memory that files made them take."""
CLOSE_TIMEOUT_S = 5.0
PIECE_BYTES = 1 << 20


class DecodePool:
    """Decodes media in worker processes; safe from many threads, each of which waits for its own medium.

    Needs Linux, as servers have it.
    """

    def __init__(
        self,
        prepare_frame: Callable[[np.ndarray], np.ndarray],
        *,
        num_workers: int,
        timeout_s: float,
        max_memory_bytes: int = 4 << 30,
    ) -> None:
        """Start the process that others are forked from; this does not wait for it.

        Args:
            prepare_frame: Applied to each frame of a video where it is decoded; can be pickled, such as
                ``partial(fit_frame, settings=processor.video_pixels)``.
            num_workers: Most media that are decoded at a time; others wait.
            timeout_s: Most seconds for one medium, from when it is given to a worker to its last frame.
            max_memory_bytes: What decoding one medium may take.
        """
        self._prepare_frame = prepare_frame
        self._num_workers = num_workers
        self._timeout_s = timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._changed = threading.Condition()
        self._idle: list[Decoder] = []
        self._num_busy = 0
        self._is_closed = False
        self._forks = ForkServer(prepare_frame, max_memory_bytes=max_memory_bytes, timeout_s=timeout_s)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def load(
        self,
        source: Any,
        *,
        sampling: FrameSampling,
        kind: Literal["auto", "image", "video"] = "auto",
        limits: MediaLimits | None = None,
        progress: Progress | None = None,
    ) -> Frames:
        """As ``load_media`` does it, with the frames of videos prepared; what is decoded already stays here.

        Raises:
            MediaError: As there; also where decoding kills its process.
            MediaLimitError: As there; also where decoding takes too long or too much memory.
            EngineError: The pool is closed, or cannot start a process.
        """
        limits = limits or MediaLimits()
        if isinstance(source, Frames | Image.Image | list | tuple) or hasattr(source, "ndim"):
            return load_media(source, sampling=sampling, on_frame=self._prepare_frame, kind=kind, limits=limits)
        opened = open_source(source, limits, progress)
        with _descriptors(opened) as descriptors, self._decoder(opened.name) as decoder:
            ends = time.monotonic() + self._timeout_s
            set_timeout(decoder.sock, ends)
            send(decoder.sock, _request(opened, sampling, limits, kind), descriptors=descriptors)
            header, surplus = receive(decoder.sock, ends=ends)
            for descriptor in surplus:
                os.close(descriptor)
            answer = read_answer(
                decoder.sock, header, opened.name, limits=limits, max_bytes=self._max_memory_bytes, ends=ends
            )
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End all processes; threads that wait for a medium get an error."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            idle, self._idle = self._idle, []
        self._forks.close()
        for decoder in idle:
            decoder.sock.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._num_busy, CLOSE_TIMEOUT_S)

    @contextmanager
    def _decoder(self, name: str) -> Iterator[Decoder]:
        """A decoder for one medium; kept for the next where nothing went wrong, and ended where it did."""
        idle = self._take(name)
        decoder: Decoder | None = None
        is_whole = False
        try:
            decoder = self._living(idle)
            yield decoder
            is_whole = decoder.num_sources < MAX_SOURCES
        except TimeoutError as error:
            raise self._too_slow(name) from error
        except (OSError, WireError) as error:
            assert decoder is not None
            raise self._lost(name, self._forks.end(decoder)) from error
        finally:
            self._give_back(decoder, is_whole)

    def _take(self, name: str) -> Decoder | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._num_busy < self._num_workers)
            if self._is_closed:
                raise _closed(name)
            self._num_busy += 1
            return self._idle.pop() if self._idle else None

    def _living(self, idle: Decoder | None) -> Decoder:
        """The decoder itself, or a new one where there is none or it has died since."""
        if idle is not None:
            if _is_waiting(idle):
                idle.num_sources += 1
                return idle
            self._forks.end(idle)
        decoder = self._forks.fork()
        decoder.num_sources = 1
        return decoder

    def _give_back(self, decoder: Decoder | None, is_whole: bool) -> None:
        with self._changed:
            if decoder is not None and is_whole and not self._is_closed:
                self._idle.append(decoder)
                decoder = None
        if decoder is not None and decoder.sock.fileno() >= 0:
            self._forks.end(decoder)
        with self._changed:
            self._num_busy -= 1
            self._changed.notify_all()

    def _too_slow(self, name: str) -> MediaLimitError:
        return MediaLimitError(
            f"Decoding {name} took longer than {self._timeout_s:g} s and was ended. Expected it to end within "
            "max_decode_s. Pass a shorter or smaller video, or raise max_decode_s.",
            limit="max_decode_s",
        )

    def _lost(self, name: str, status: int | None) -> Exception:
        with self._changed:
            if self._is_closed:
                return _closed(name)
        if status is not None and -status == signal.SIGXCPU:
            return self._too_slow(name)
        return MediaError(
            f"Decoding {name} ended its process ({_told(status)}). Expected a file that decoders survive. "
            "Convert it, for example with ffmpeg; if others fail too, tell who runs this machine."
        )


def _request(opened: OpenedSource, sampling: FrameSampling, limits: MediaLimits, kind: str) -> dict[str, Any]:
    """What a decoder is asked for."""
    return {
        "name": opened.name,
        "path": None if opened.path is None else os.path.abspath(opened.path),
        # A caller's own rule may be more than its numbers. The decoder trusts what comes from here.
        "sampling": base64.b64encode(pickle.dumps(sampling)).decode("ascii"),
        "limits": asdict(limits),
        "kind": kind,
    }


def _is_waiting(decoder: Decoder) -> bool:
    """Whether a decoder lives and has nothing to say, as it should before it was asked."""
    try:
        decoder.sock.settimeout(0)
        decoder.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _closed(name: str) -> EngineError:
    return EngineError(f"{name} was not read: the decoders are closed. Expected them to run. Start them again.")


def _told(status: int | None) -> str:
    if status is None or status >= 0:
        return "it gave no answer"
    return f"by {signal.Signals(-status).name}"


@contextmanager
def _descriptors(opened: OpenedSource) -> Iterator[list[int]]:
    """What to send along with a medium that has no path: an open file of its bytes."""
    stream = opened.stream
    with ExitStack() as stack:
        if stream is None:
            yield []
        elif isinstance(getattr(stream, "raw", stream), FileIO | HeldFile):
            yield [stream.fileno()]
        else:
            file = stack.enter_context(os.fdopen(os.memfd_create("medium"), "r+b", buffering=0))
            reader = opened.rewound()
            while piece := reader.read(PIECE_BYTES):
                file.write(piece)
            yield [file.fileno()]

"""An open file descriptor -> a seekable stream that no other holder of the same open file can move."""

from __future__ import annotations

import io
import os
import weakref

__all__ = ["HeldFile"]


class HeldFile:
    """Reads a regular file that is open already, whatever has become of its name; closed when nobody holds it.

    Positions are its own: descriptors that were sent to another process share theirs with the sender's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._size = os.fstat(descriptor).st_size
        self.close = weakref.finalize(self, os.close, descriptor)

    def fileno(self) -> int:
        """The descriptor, which stays this object's."""
        return self._descriptor

    def read(self, num_bytes: int = -1) -> bytes:
        """Up to so many bytes from the position on; all that are left where none are named."""
        wanted = max(0, self._size - self._position) if num_bytes is None or num_bytes < 0 else num_bytes
        data = os.pread(self._descriptor, wanted, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and tell where to."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seekable(self) -> bool:
        """Always."""
        return True

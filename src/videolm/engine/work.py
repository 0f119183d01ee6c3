"""What the scheduler deals in: jobs, and what each of them computes in a step."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Copy", "Job", "Step", "Work"]


@dataclass(kw_only=True, eq=False)
class Job:
    """One request on its way."""

    id: str
    root: bytes
    """Key of what its first block follows."""
    content: list[int]
    """Of the prompt's tokens and of those generated so far."""
    max_tokens: int
    """Tokens that may have to be stored: all but the last that it may generate."""
    arrival: int = -1
    blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    """Of the whole blocks of ``content``."""
    num_computed: int = 0
    """Tokens whose keys and values are stored."""
    num_cached: int = 0
    """Tokens of the prompt that were stored already when it was admitted first."""
    was_admitted: bool = False

    @property
    def num_left(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return len(self.content) - self.num_computed


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one job computes in a step: ``count`` tokens of its content from ``start`` on, then ``draft``."""

    job: Job
    start: int
    count: int
    draft: tuple[int, ...] = ()
    draws: bool
    """Whether it reaches the end of the content, so that a token can be drawn."""

    @classmethod
    def of(cls, job: Job, count: int, draft: tuple[int, ...] = ()) -> Work:
        """The next ``count`` tokens of a job."""
        return cls(job=job, start=job.num_computed, count=count, draft=draft, draws=count == job.num_left)

    @property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return self.count + len(self.draft)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """The first ``num_tokens`` tokens of a block, to be copied to another one before the step."""

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is computed together."""

    works: tuple[Work, ...] = ()
    copies: tuple[Copy, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return sum(work.num_tokens for work in self.works)

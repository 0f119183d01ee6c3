"""Logits in, one token id out: greedy, or a seeded draw from the logits that a chain of processors leaves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from videolm.errors import GenerationError
from videolm.generation.params import SamplingParams

LogitsProcessor = Callable[[Tensor, Sequence[int]], Tensor]
"""``(logits [V], ids so far) -> logits [V]``; what may not be drawn becomes ``-inf``."""
Sampler = Callable[[Tensor, Sequence[int]], int]
"""``(logits [V], ids so far) -> id``; the ids so far are the prompt's and the generated ones."""

__all__ = [
    "LogitsProcessor",
    "Multinomial",
    "Sampler",
    "checked",
    "draw_each",
    "draw_one",
    "generation_penalties",
    "greedy",
    "likeliest",
    "make_processors",
    "make_sampler",
    "min_p",
    "no_repeat_ngram",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "without",
]

_COLDEST = 1e-6
"""A temperature at which nothing but the likeliest token is ever drawn, unless another one is as likely."""


def make_sampler(params: SamplingParams, prompt_len: int = 0) -> Sampler:
    """The sampler that ``params`` describe; one for each answer, since drawing moves its generator on.

    Args:
        prompt_len: So many of the ids so far were not generated.
    """
    processors = make_processors(params, prompt_len)
    choose = greedy if params.is_greedy else Multinomial(params.seed)

    def sample(logits: Tensor, previous_ids: Sequence[int]) -> int:
        for process in processors:
            logits = process(logits, previous_ids)
        return choose(logits)

    return sample


def make_processors(params: SamplingParams, prompt_len: int = 0) -> tuple[LogitsProcessor, ...]:
    """The processors that change something, in the order of transformers' ``generate``."""
    chain: list[LogitsProcessor] = []
    if params.repetition_penalty != 1:
        chain.append(repetition_penalty(params.repetition_penalty))
    if params.presence_penalty or params.frequency_penalty:
        chain.append(generation_penalties(params.presence_penalty, params.frequency_penalty, prompt_len))
    if params.is_greedy:  # the rest never removes the most likely token
        return tuple(chain)
    chain.append(temperature(params.temperature))
    if params.top_k:
        chain.append(top_k(params.top_k))
    if params.top_p < 1:
        chain.append(top_p(params.top_p))
    if params.min_p:
        chain.append(min_p(params.min_p))
    return tuple(chain)


def greedy(logits: Tensor) -> int:
    """The most likely token; of equals the first."""
    index = int(logits.argmax())
    return checked(index, float(logits[index]))


def likeliest(logits: Tensor) -> list[tuple[int, float]]:
    """What ``greedy`` takes from each row of ``[N, V]``, and its logit, not ``checked`` yet.

    All rows come to the host together: a GPU is waited for once.
    """
    indices = logits.argmax(-1, keepdim=True)
    found = torch.cat([indices.double(), logits.gather(-1, indices).double()], dim=-1)  # [N, 2]
    return [(int(index), value) for index, value in found.tolist()]


def checked(index: int, value: float) -> int:
    """``index``, the best one, unless its logit ``value`` is no finite number."""
    _check(value)
    return index


class Multinomial:
    """Draws by inverting the cumulative distribution with one uniform number: the same draw on every device."""

    def __init__(self, seed: int | None = None) -> None:
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def uniform(self) -> float:
        """The number of the next draw."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def __call__(self, logits: Tensor) -> int:
        """A token of ``[V]``."""
        return draw_one(logits, self.uniform())


def draw_one(logits: Tensor, uniform: float) -> int:
    """What ``Multinomial`` draws from ``[V]`` by a number from 0 to 1."""
    cumulative = _cumulative(logits)
    total = float(cumulative[-1])
    _check(total)
    # Strictly below the total, so that the token found has a probability of its own.
    threshold = min(uniform * total, math.nextafter(total, 0.0))
    return int(torch.searchsorted(cumulative, cumulative.new_tensor(threshold), right=True))


def draw_each(logits: Tensor, uniforms: Sequence[float]) -> list[tuple[int, float]]:
    """What ``draw_one`` draws from each row of ``[N, V]``, and the row's sum, not ``checked`` yet.

    All rows come to the host together: a GPU is waited for once. On a CPU it takes longer than row by row.
    """
    cumulative = _cumulative(logits)
    totals = cumulative[:, -1:]
    numbers = _beside(torch.tensor(uniforms, dtype=torch.float64), logits)[:, None]
    thresholds = torch.minimum(numbers * totals, totals.nextafter(torch.zeros_like(totals)))
    indices = torch.searchsorted(cumulative, thresholds, right=True)
    return [(int(index), total) for index, total in torch.cat([indices.double(), totals], dim=-1).tolist()]


def _cumulative(logits: Tensor) -> Tensor:
    return logits.float().softmax(-1).double().cumsum(-1)


def repetition_penalty(penalty: float) -> LogitsProcessor:
    """Divide positive and multiply negative logits of the ids so far by ``penalty``."""

    def process(logits: Tensor, previous_ids: Sequence[int]) -> Tensor:
        # Placeholders of pictures and videos may lie outside the vocabulary.
        seen = sorted(token_id for token_id in set(previous_ids) if 0 <= token_id < logits.shape[-1])
        index = _beside(torch.tensor(seen, dtype=torch.int64), logits)
        values = logits[index]
        return logits.index_copy(0, index, torch.where(values < 0, values * penalty, values / penalty))

    return process


def generation_penalties(presence: float, frequency: float, prompt_len: int) -> LogitsProcessor:
    """Take ``presence``, and ``frequency`` for each time, from the logits of the ids from ``prompt_len`` on."""

    def process(logits: Tensor, previous_ids: Sequence[int]) -> Tensor:
        counts = Counter(previous_ids[prompt_len:])
        if not counts:
            return logits
        index = _beside(torch.tensor(list(counts), dtype=torch.int64), logits)
        penalties = torch.tensor([presence + frequency * count for count in counts.values()])
        return logits.float().index_add(0, index, _beside(penalties, logits), alpha=-1)

    return process


def no_repeat_ngram(size: int) -> LogitsProcessor:
    """Rule out every id that would repeat a run of ``size`` ids."""

    def process(logits: Tensor, previous_ids: Sequence[int]) -> Tensor:
        ids = list(previous_ids)
        if len(ids) + 1 < size:
            return logits
        tail = ids[len(ids) - size + 1 :]
        starts = range(len(ids) - size + 1)
        banned = {ids[start + size - 1] for start in starts if ids[start : start + size - 1] == tail}
        known = sorted(token_id for token_id in banned if 0 <= token_id < logits.shape[-1])
        return logits.index_fill(0, _beside(torch.tensor(known, dtype=torch.int64), logits), -math.inf)

    return process


def temperature(value: float) -> LogitsProcessor:
    """Divide the logits by ``value``, in float32; by no less than what leaves them finite."""
    divisor = max(value, _COLDEST)
    return lambda logits, _: logits.float() / divisor


def top_k(k: int) -> LogitsProcessor:
    """Keep the ``k`` most likely tokens and whatever equals the last of them."""

    def process(logits: Tensor, _: Sequence[int]) -> Tensor:
        weakest = logits.topk(min(k, logits.shape[-1])).values[-1]
        return logits.masked_fill(logits < weakest, -math.inf)

    return process


def top_p(mass: float) -> LogitsProcessor:
    """Keep the fewest most likely tokens whose probabilities add up to ``mass``."""

    def process(logits: Tensor, _: Sequence[int]) -> Tensor:
        ascending, order = logits.sort()
        removed = ascending.softmax(-1).cumsum(-1) <= 1 - mass
        removed[-1] = False
        return logits.masked_fill(removed.new_empty(removed.shape).scatter(0, order, removed), -math.inf)

    return process


def min_p(fraction: float) -> LogitsProcessor:
    """Keep the tokens at least ``fraction`` as likely as the most likely one."""

    def process(logits: Tensor, _: Sequence[int]) -> Tensor:
        probabilities = logits.softmax(-1)
        return logits.masked_fill(probabilities < fraction * probabilities.max(), -math.inf)

    return process


def without(logits: Tensor, token_ids: Sequence[int]) -> Tensor:
    """Logits ``[V]`` with these ids ruled out."""
    index = torch.tensor([i for i in token_ids if i < logits.shape[-1]], dtype=torch.int64)
    return logits.index_fill(0, _beside(index, logits), -math.inf)


def _beside(values: Tensor, logits: Tensor) -> Tensor:
    """A small tensor on the logits' device, without waiting for that."""
    return values.pin_memory().to(logits.device, non_blocking=True) if logits.is_cuda else values.to(logits.device)


def _check(value: float) -> None:
    if not math.isfinite(value):
        raise GenerationError(
            f"The model's logits are not usable: the best one is {value}, a finite number was expected. "
            "Load the model with dtype='float32', or check its weights."
        )

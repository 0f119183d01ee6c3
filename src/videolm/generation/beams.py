"""Log probabilities in, the most likely continuations of each prompt out: beam search without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from videolm.errors import ArgumentError
from videolm.generation.params import check_number, check_whole

Ends = Callable[[int, Sequence[Sequence[int]]], Sequence[bool]]
"""The index of a prompt and continuations of it in, whether each of them is complete out."""

__all__ = ["BeamSearch", "BeamSettings", "Ends", "Hypothesis"]

# The score of what must not win; small enough for any sum of log probabilities, large enough to be exact in float32.
_NEVER = -1.0e9


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """How wide and how long to search."""

    num_beams: int
    max_new_tokens: int
    num_stop_tokens: int = 1
    """Decides how many candidates are looked at, so that enough unfinished ones remain."""
    length_penalty: float = 1.0
    """Scores are divided by the length to this power: above 0 favours long answers."""
    early_stopping: bool | Literal["never"] = False
    """True: stop at ``num_beams`` complete answers; False: when a better one is unlikely; never: when impossible."""

    def __post_init__(self) -> None:
        check_whole("num_beams", self.num_beams, 1)
        check_number("length_penalty", abs(self.length_penalty), 0.0, hint="Use 1 for the mean log probability.")
        if self.early_stopping not in (True, False, "never"):
            raise ArgumentError(
                f"early_stopping is {self.early_stopping!r}: expected True, False or 'never'. Choose one of these."
            )

    def normalised(self, score: float, length: int) -> float:
        """A sum of log probabilities, made comparable between lengths."""
        return score / float(length**self.length_penalty)


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One continuation."""

    ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    """The row of the batch that each id was drawn from."""
    score: float = _NEVER


class BeamSearch:
    """The state of one search over a batch; row ``prompt * num_beams + beam`` is one running continuation."""

    def __init__(self, num_prompts: int, settings: BeamSettings, *, draw: torch.Generator | None = None) -> None:
        """``draw``: draw candidates by their probability instead of taking the best."""
        self.settings = settings
        self._draw = draw
        num_beams = settings.num_beams
        # All beams of a prompt begin alike: only the first may be continued.
        first = [Hypothesis(score=0.0), *[Hypothesis()] * (num_beams - 1)]
        self.running = [list(first) for _ in range(num_prompts)]
        self.finished: list[list[Hypothesis]] = [[] for _ in range(num_prompts)]
        self.is_done = False
        self._can_improve = [True] * num_prompts

    def step(self, log_probs: Tensor, ends: Ends) -> tuple[list[int], list[int]]:
        """Lengthen all running continuations by one token.

        Args:
            log_probs: ``[prompts * num_beams, V]`` float32.
            ends: Which candidates are complete.

        Returns:
            For each row, the row that it continues and its new token.
        """
        num_beams = self.settings.num_beams
        parents: list[int] = []
        tokens: list[int] = []
        all_end = True
        for prompt in range(len(self.running)):
            first = prompt * num_beams
            candidates = self._candidates(prompt, log_probs[first : first + num_beams])
            is_complete = ends(prompt, [candidate.ids for candidate in candidates])
            all_end = all_end and all(is_complete)
            self._finish(prompt, candidates[:num_beams], is_complete)
            open_first = sorted(zip(is_complete, candidates, strict=True), key=lambda pair: pair[0])
            self.running[prompt] = [
                Hypothesis(ids=each.ids, parents=each.parents, score=each.score + done * _NEVER)
                for done, each in open_first[:num_beams]
            ]
            parents += [each.parents[-1] for each in self.running[prompt]]
            tokens += [each.ids[-1] for each in self.running[prompt]]
        self._judge(all_end)
        return parents, tokens

    def best(self, count: int) -> list[Hypothesis]:
        """The ``count`` best complete continuations of each prompt, prompt after prompt."""
        return [hypothesis for found in self.finished for hypothesis in found[:count]]

    def _candidates(self, prompt: int, log_probs: Tensor) -> list[Hypothesis]:
        """More than enough continuations of one prompt, best first."""
        settings = self.settings
        num_words = log_probs.shape[-1]
        wanted = max(2, 1 + settings.num_stop_tokens) * settings.num_beams
        scores = log_probs.new_tensor([beam.score for beam in self.running[prompt]])
        totals = (log_probs + scores[:, None]).flatten()  # [num_beams * V]
        if self._draw is None:
            best = totals.topk(min(wanted, len(totals)))
            values, places = best.values, best.indices
        else:
            places = torch.multinomial(totals.softmax(-1).cpu(), wanted, generator=self._draw).to(totals.device)
            places = places[totals[places].argsort(descending=True)]
            values = totals[places]
        found = []
        for score, place in zip(values.tolist(), places.tolist(), strict=True):
            beam = self.running[prompt][place // num_words]
            found.append(
                Hypothesis(
                    ids=(*beam.ids, place % num_words),
                    parents=(*beam.parents, prompt * settings.num_beams + place // num_words),
                    score=score,
                )
            )
        return found

    def _finish(self, prompt: int, candidates: Sequence[Hypothesis], is_complete: Sequence[bool]) -> None:
        """Keep the complete ones among the best candidates, unless the prompt has been settled."""
        num_beams = self.settings.num_beams
        found = self.finished[prompt]
        is_full = len(found) == num_beams and self.settings.early_stopping is True
        if is_full or not self._can_improve[prompt]:
            return
        for each, done in zip(candidates, is_complete, strict=False):
            if done:
                score = self.settings.normalised(each.score, len(each.ids))
                found.append(Hypothesis(ids=each.ids, parents=each.parents, score=score))
        found.sort(key=lambda hypothesis: -hypothesis.score)
        del found[num_beams:]

    def _judge(self, all_end: bool) -> None:
        settings = self.settings
        length = len(self.running[0][0].ids)
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = settings.max_new_tokens
        for prompt, found in enumerate(self.finished):
            best = settings.normalised(self.running[prompt][0].score, length)
            worst = found[-1].score if len(found) == settings.num_beams else _NEVER
            self._can_improve[prompt] = self._can_improve[prompt] and best > worst
        all_full = all(len(found) == settings.num_beams for found in self.finished)
        is_enough = all_full and settings.early_stopping is True
        self.is_done = all_end or is_enough or not any(self._can_improve)

"""A left-padded batch of prompts in, the prompts with their continuations out, on top of ``generation``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videolm.errors import ArgumentError
from videolm.families.calling import Prompt, read_prompt
from videolm.families.criteria import Criterion, listed, read_criteria, rows_met
from videolm.families.generation_options import GenerationSettings, new_token_limit, read_settings
from videolm.families.media_arguments import MediaArguments
from videolm.families.outputs import GenerateBeamOutput, GenerateOutput
from videolm.families.placeholders import PlacedBatch
from videolm.families.stepping import Stepper
from videolm.generation.beams import BeamSearch, BeamSettings
from videolm.generation.sampling import Multinomial, greedy

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["generate_batch"]

BatchProcessor = Callable[[Tensor, Tensor], Tensor]


def generate_batch(
    model: FamilyModel,
    input_ids: Tensor | None,
    *,
    inputs: Tensor | None = None,
    attention_mask: Tensor | None = None,
    pixel_values: Any = None,
    pixel_values_images: Any = None,
    pixel_values_videos: Any = None,
    image_sizes: Any = None,
    vision_feature_layer: int | list[int] | None = None,
    vision_feature_select_strategy: str | None = None,
    generation_config: Any = None,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    streamer: Any = None,
    tokenizer: Any = None,
    **options: Any,
) -> Tensor | GenerateOutput:
    """Continue each row until its end token, a stop string, a criterion, or the limit.

    Args:
        input_ids: ``[B, S]``, padded on the left; placeholders written out or not, which the result repeats.
            ``inputs`` is another name.
        pixel_values: Media as ``forward`` takes them.
        generation_config: Options as an object; those of the call come first.
        logits_processor: Callables ``(input_ids [B, S], scores [B, V]) -> scores``, after the built-in penalties.
        stopping_criteria: Callables ``(input_ids, scores) -> bool or bool [B]``.
        streamer: Its ``put`` gets the prompts, then the new ids of every step; its ``end`` is called last.
        tokenizer: What ``stop_strings`` are decoded with.
        options: max_new_tokens or max_length, min_new_tokens, do_sample, temperature, top_k, top_p, min_p,
            repetition_penalty, no_repeat_ngram_size, num_beams, length_penalty, early_stopping,
            num_return_sequences, eos_token_id (None: never stop early), pad_token_id, stop_strings,
            return_dict_in_generate, output_scores, output_logits, use_cache, seed (row ``i`` draws with ``seed + i``).

    Returns:
        ``[B * num_return_sequences, S + new tokens]``, or an object with these as ``sequences``.
    """
    ids = input_ids if input_ids is not None else inputs
    if not isinstance(ids, Tensor) or ids.dim() != 2 or not ids.shape[1]:
        raise ArgumentError("generate got no prompt: expected input_ids [B, S] with at least one column. Pass them.")
    settings = read_settings(model, generation_config, options)
    ids = ids.to(model.device)
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(model.device)
    if not bool(mask[:, -1].all()):
        raise ArgumentError(
            "A row of attention_mask ends with padding: generation continues each row at its end, so padding belongs "
            "on the left. Set processor.tokenizer.padding_side = 'left' and prepare the batch again."
        )
    media = MediaArguments.of(
        pixel_values=pixel_values,
        pixel_values_images=pixel_values_images,
        image_sizes=image_sizes,
        videos=pixel_values_videos,
    )
    view = model.model.under(vision_feature_layer, vision_feature_select_strategy)
    prompt = read_prompt(view, input_ids=ids, media=media, attention_mask=mask)
    assert prompt.placed is not None
    run = _Run(
        model=model,
        settings=settings,
        ids=ids,
        mask=mask,
        prompt=prompt,
        limit=_limit(settings, ids, prompt),
        processors=listed(logits_processor),
        criteria=read_criteria(stopping_criteria, settings.stop_strings, tokenizer, ids.shape[1]),
        streamer=streamer,
    )
    output = _beam_search(run) if settings.num_beams > 1 else _sample(run)
    if streamer is not None:
        streamer.end()
    return output if settings.flag("return_dict_in_generate") else output.sequences


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Everything that a loop over steps needs."""

    model: FamilyModel
    settings: GenerationSettings
    ids: Tensor
    mask: Tensor
    prompt: Prompt
    limit: int
    processors: Sequence[BatchProcessor]
    criteria: Sequence[Criterion]
    streamer: Any

    def rows(self, copies: int) -> list[list[int]]:
        """The ids of every row without padding, each ``copies`` times."""
        kept = [ids[seen.bool()].tolist() for ids, seen in zip(self.ids, self.mask, strict=True)]
        return [list(row) for row in kept for _ in range(copies)]

    def scores(self, logits: Tensor, ids: Tensor, rows: Sequence[Sequence[int]], num_new: int) -> Tensor:
        """Logits or log probabilities ``[R, V]`` after all processors."""
        settings = self.settings
        scores = _each(logits, rows, settings.shaping())
        if num_new < settings.params.min_new_tokens and settings.stops:
            known = [token_id for token_id in settings.stops if token_id < scores.shape[-1]]
            scores = scores.index_fill(1, torch.tensor(known, device=scores.device), -torch.inf)
        for process in self.processors:
            scores = process(ids, scores)
        return _each(scores, rows, settings.drawing())


def _sample(run: _Run) -> GenerateOutput:
    """Greedy, or drawn: every row by itself."""
    settings = run.settings
    copies, seed = settings.num_return_sequences, settings.params.seed
    stepper = Stepper(run.model, run.prompt, use_cache=settings.use_cache)
    ids = run.ids.repeat_interleave(copies, dim=0)
    rows = run.rows(copies)
    choices = [
        Multinomial(None if seed is None else seed + row) if settings.do_sample else greedy for row in range(len(rows))
    ]
    is_finished = [False] * len(rows)
    kept_scores: list[Tensor] = []
    kept_logits: list[Tensor] = []
    if run.streamer is not None:
        run.streamer.put(ids.cpu())
    logits = stepper.first(copies)
    for step in range(run.limit):
        scores = run.scores(logits, ids, rows, step)
        kept_scores += [scores] if settings.flag("output_scores") else []
        kept_logits += [logits] if settings.flag("output_logits") else []
        chosen = []
        for row, choose in enumerate(choices):
            token_id = settings.pad_token_id if is_finished[row] else choose(scores[row])
            rows[row].append(token_id)
            chosen.append(token_id)
            is_finished[row] = is_finished[row] or token_id in settings.stops
        tokens = torch.tensor(chosen, device=ids.device)
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        if run.streamer is not None:
            run.streamer.put(tokens.cpu())
        met = rows_met(run.criteria, ids, scores)
        is_finished = [before or now for before, now in zip(is_finished, met, strict=True)]
        if all(is_finished) or step + 1 == run.limit:
            break
        logits = stepper.next(tokens)
    return GenerateOutput(
        sequences=ids,
        scores=tuple(kept_scores) or None,
        logits=tuple(kept_logits) or None,
        past_key_values=stepper.cache,
    )


def _beam_search(run: _Run) -> GenerateBeamOutput:
    """The most likely continuations of every row as a whole."""
    settings, config = run.settings, run.settings.config
    if run.streamer is not None:
        raise ArgumentError(
            f"A streamer came with num_beams={settings.num_beams}: beam search does not know its answer before the "
            "end. Leave the streamer out, or set num_beams=1."
        )
    num_beams = settings.num_beams
    draw = None
    if settings.do_sample:
        draw = torch.Generator()
        draw.seed() if settings.params.seed is None else draw.manual_seed(settings.params.seed)
    search = BeamSearch(
        len(run.ids),
        BeamSettings(
            num_beams=num_beams,
            max_new_tokens=run.limit,
            num_stop_tokens=len(settings.stops),
            length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
            early_stopping=False if config.early_stopping is None else config.early_stopping,
        ),
        draw=draw,
    )
    stepper = Stepper(run.model, run.prompt, use_cache=settings.use_cache)
    prompts = run.rows(num_beams)
    first_ids = run.ids.repeat_interleave(num_beams, dim=0)
    kept_scores: list[Tensor] = []
    kept_logits: list[Tensor] = []
    logits = stepper.first(num_beams)
    for step in range(run.limit):
        beams = [list(beam.ids) for running in search.running for beam in running]
        new_ids = torch.tensor(beams, dtype=torch.int64, device=first_ids.device).view(len(beams), step)
        rows = [prompt + beam for prompt, beam in zip(prompts, beams, strict=True)]
        scores = run.scores(logits.log_softmax(-1), torch.cat([first_ids, new_ids], dim=1), rows, step)
        kept_scores += [scores] if settings.flag("output_scores") else []
        kept_logits += [logits] if settings.flag("output_logits") else []
        parents, tokens = search.step(scores, partial(_are_complete, run, kept_scores))
        if search.is_done:
            break
        device = first_ids.device
        logits = stepper.next(torch.tensor(tokens, device=device), torch.tensor(parents, device=device))
    return _beam_output(run, search, stepper, kept_scores, kept_logits)


def _beam_output(
    run: _Run, search: BeamSearch, stepper: Stepper, scores: Sequence[Tensor], logits: Sequence[Tensor]
) -> GenerateBeamOutput:
    settings = run.settings
    found = search.best(settings.num_return_sequences)
    longest = max(len(hypothesis.ids) for hypothesis in found)
    new_ids = run.ids.new_full((len(found), longest), settings.pad_token_id)
    beam_indices = new_ids.new_full((len(found), longest), -1)
    for row, hypothesis in enumerate(found):
        new_ids[row, : len(hypothesis.ids)] = torch.tensor(hypothesis.ids)
        beam_indices[row, : len(hypothesis.ids)] = torch.tensor(hypothesis.parents)
    prompts = run.ids.repeat_interleave(settings.num_return_sequences, dim=0)
    return GenerateBeamOutput(
        sequences=torch.cat([prompts, new_ids], dim=1),
        scores=tuple(scores) or None,
        logits=tuple(logits) or None,
        past_key_values=stepper.cache,
        sequences_scores=torch.tensor([hypothesis.score for hypothesis in found]) if scores else None,
        beam_indices=beam_indices,
    )


def _are_complete(run: _Run, scores: Sequence[Tensor], prompt: int, found: Sequence[Sequence[int]]) -> list[bool]:
    """Which candidates of one prompt are complete."""
    ended = [ids[-1] in run.settings.stops or len(ids) >= run.limit for ids in found]
    if not run.criteria:
        return ended
    new_ids = torch.tensor([list(ids) for ids in found], device=run.ids.device)
    ids = torch.cat([run.ids[prompt].expand(len(found), -1), new_ids], dim=1)
    met = rows_met(run.criteria, ids, scores)
    return [before or now for before, now in zip(ended, met, strict=True)]


def _limit(settings: GenerationSettings, ids: Tensor, prompt: Prompt) -> int:
    placed = prompt.placed
    assert isinstance(placed, PlacedBatch)
    batch, length = prompt.embeds.shape[:2]
    num_real = [length] * batch if prompt.mask is None else [int(count) for count in prompt.mask.sum(1)]
    return new_token_limit(settings, ids.shape[1], placed, num_real)


def _each(scores: Tensor, rows: Sequence[Sequence[int]], chain: Sequence[Any]) -> Tensor:
    """Processors for one row, applied to every row."""
    if not chain:
        return scores
    treated = []
    for row, ids in zip(scores, rows, strict=True):
        for process in chain:
            row = process(row, ids)
        treated.append(row)
    return torch.stack(treated)

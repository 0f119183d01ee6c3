"""Requests in, answers out: many at once, step by step, with nothing computed twice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from videolm.engine.answering import Answering
from videolm.engine.blocks import BlockPool
from videolm.engine.config import EngineConfig
from videolm.engine.draft import PromptLookup
from videolm.engine.drawing import choose_together
from videolm.engine.encoding import EncodingBudget, works_within
from videolm.engine.faults import refused, told
from videolm.engine.features import FeatureMemory, FeatureSource
from videolm.engine.fitting import check_capacity, fit_to_context, num_stored
from videolm.engine.keys import content_of, root_key
from videolm.engine.memory import is_out_of_memory
from videolm.engine.preparation import PreparationPool, Prepared
from videolm.engine.preparing import prepare
from videolm.engine.request import EndReason, Request, RequestOutput, pixel_bytes
from videolm.engine.runner import ModelRunner
from videolm.engine.scheduler import Scheduler
from videolm.engine.sending import CudaSend, SendingFeatures
from videolm.engine.statistics import EngineStats, Tally
from videolm.engine.work import Job, Work
from videolm.errors import ArgumentError, EngineError, VideoLMError
from videolm.freed_memory import give_back_free_memory
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

__all__ = ["Engine"]

_MANY_TOKENS = 512
"""What a step of so many leaves free on a CPU is given back: it takes long, and the next one has tensors of other sizes
(a question about 32 frames peaked at 2.32 GB without, at 2.07 GB with it, in the same time)."""


class Engine:
    """Answers requests with one model; to be used by one thread at a time."""

    def __init__(
        self,
        model: VideoLM,
        processor: Processor,
        config: EngineConfig | None = None,
        *,
        features: FeatureSource | None = None,
    ) -> None:
        """``features``: where encoded media come from; None: the model, with what it encoded kept in memory."""
        self.config = config or EngineConfig()
        self.model = model
        self.processor = processor
        self._features = features or FeatureMemory(model, max_bytes=self.config.feature_bytes)
        if model.device.type == "cuda":
            self._features = SendingFeatures(self._features, CudaSend(model.device))
        self._encoding = EncodingBudget.of(model, self.config.max_batch_patches)
        self._runner = ModelRunner(model, self.config)
        self._scheduler = Scheduler(
            BlockPool(self._runner.num_blocks, self.config.block_size),
            max_batch_tokens=self.config.max_batch_tokens,
            max_running=self.config.max_running,
            reuses_prefixes=self.config.reuses_prefixes,
            draft=self._guess if self.config.draft_len else None,
        )
        self._answering: dict[str, Answering] = {}
        self._lookups: dict[str, PromptLookup] = {}
        self._tally = Tally()
        self._publish()

    @property
    def has_requests(self) -> bool:
        """Whether anything is unanswered."""
        return bool(self._answering)

    @property
    def capacity(self) -> int:
        """The most tokens that a prompt may have together with its answer but for the last token of that."""
        return self._scheduler.capacity

    @property
    def num_used_blocks(self) -> int:
        """Blocks of the cache that unfinished requests hold."""
        return self._scheduler.pool.num_used

    def stats(self) -> EngineStats:
        """What there is and was, as of the last call that changed something. From any thread."""
        return self._stats

    def prepare(self, request: Request) -> Request:
        """Read media, make the prompt, and refuse what can never be answered; ``add`` does so too. From any thread."""
        request = prepare(request, self.processor, self.config)
        assert request.inputs is not None
        params = fit_to_context(request.inputs, request.params, self.model.model.config.decoder)
        check_capacity(request.id, num_stored(request.inputs, params), self.capacity)
        if isinstance(self._features, SendingFeatures) and request.media_keys is not None:
            self._features.send(request.inputs.media, request.media_keys)
        return replace(request, params=params)

    def add(self, request: Request) -> None:
        """Queue a request."""
        if request.id in self._answering:
            raise ArgumentError(
                f"A request {request.id!r} is being answered already: expected a name of its own for each. Change id."
            )
        request = self.prepare(request)
        inputs = request.inputs
        assert inputs is not None
        assert request.media_keys is not None
        factor = self.model.model.config.decoder.rope_factor_of(inputs.media)
        max_tokens = num_stored(inputs, request.params)
        content = content_of(inputs, request.media_keys)
        job = Job(id=request.id, root=root_key(factor), content=content, max_tokens=max_tokens)
        self._answering[request.id] = Answering(request, job, self.processor.tokenizer.stream(), rope_factor=factor)
        if self.config.draft_len:
            self._lookups[request.id] = PromptLookup(self.config.draft_ngram, self.config.draft_len)
        self._scheduler.add(job)
        self._publish()

    def abort(self, request_id: str) -> RequestOutput | None:
        """Give a request up and free its blocks; None where there is no such request (any more)."""
        answering = self._answering.get(request_id)
        if answering is None:
            return None
        self._remove(answering, "abort")
        self._publish()
        return answering.end("abort")

    def fail(self, error: BaseException) -> list[RequestOutput]:
        """End all requests, after a fault that no step has dealt with."""
        outputs = [self._fail(answering, error) for answering in list(self._answering.values())]
        self._publish()
        return outputs

    def generate(self, requests: Iterable[Request]) -> list[RequestOutput]:
        """Answer all, in their order; a request that cannot be answered has an output with its error.

        Media that messages name are read ahead in threads while the model works on what is there.
        """
        requests = list(requests)
        if len({request.id for request in requests}) < len(requests):
            raise ArgumentError("Two requests have the same id: expected a name of its own for each. Change one.")
        if self.has_requests:
            raise EngineError(
                f"{len(self._answering)} other requests are being answered: generate expects an engine without any. "
                "Call step until has_requests is False."
            )
        config, done = self.config, dict[str, RequestOutput]()
        with PreparationPool(
            self.prepare, num_workers=config.num_preparers, max_ahead=config.max_prepared, size_of=pixel_bytes
        ) as pool:
            for request in requests:
                if request.messages is not None:
                    pool.submit(request)
                elif (output := self._add_prepared(Prepared(ticket=-1, item=request, value=request))) is not None:
                    done[request.id] = output
            while pool.num_pending or self.has_requests:
                if len(self._answering) < config.max_running:  # What is read takes memory until it is answered.
                    taken = pool.take(0.0 if self.has_requests else None)
                    refusals = (self._add_prepared(prepared) for prepared in taken)
                    done.update((output.id, output) for output in refusals if output is not None)
                if self.has_requests:
                    done.update((output.id, output) for output in self.step() if output.is_finished)
        return [done[request.id] for request in requests]

    def _add_prepared(self, prepared: Prepared[Request, Request]) -> RequestOutput | None:
        """Queue a request, or say why not."""
        request = prepared.item
        try:
            self.add(prepared.result())
        except Exception as error:
            return refused(
                request, error if isinstance(error, VideoLMError) else told(error, request.id, during="its preparation")
            )
        return None

    def step(self) -> list[RequestOutput]:
        """Compute the next tokens; gives news of the requests that have any.

        A fault ends the requests that have it, or all of the step where that cannot be told, and no others.
        """
        step = self._scheduler.schedule()
        failed: list[RequestOutput] = []
        works = list(step.works)
        try:
            self._runner.copy(step.copies)
            works = works_within(works, self._answering, self._features, self._encoding)
            self._fetch_features(works, failed)
            drawn = self._compute(works) if works else []
        except BaseException as error:  # Whatever it is, the engine must go on; a library's panic is no Exception.
            left = replace(step, works=tuple(work for work in works if work.job.id in self._answering))
            if isinstance(error, KeyboardInterrupt | SystemExit):
                self._scheduler.restart(left)
                raise
            if is_out_of_memory(error) and self._scheduler.shrink(left):
                return failed
            return failed + [self._fail(self._answering[work.job.id], error) for work in left.works]
        finally:
            self._scheduler.close(step)
            self._tally.num_steps += bool(step.works)
            self._publish()
            if self.model.device.type == "cpu" and step.num_tokens >= _MANY_TOKENS:
                give_back_free_memory()
        return failed + drawn

    def _fetch_features(self, works: list[Work], failed: list[RequestOutput]) -> None:
        """Encode the media that these works need, all together; where that fails, one work at a time.

        A work whose media cannot be encoded even so is taken out of ``works``.
        """
        try:
            self._fetch(works)
        except Exception:
            for work in list(works):
                try:
                    self._fetch([work])
                except Exception as error:
                    works.remove(work)
                    failed.append(self._fail(self._answering[work.job.id], error))

    def _fetch(self, works: Sequence[Work]) -> None:
        wanted = [
            (each, index) for work in works for each in [self._answering[work.job.id]] for index in each.missing(work)
        ]
        if not wanted:
            return
        start = time.perf_counter()
        media = [answering.inputs.media[index] for answering, index in wanted]
        found = self._features.features_for(media, [answering.media_keys[index] for answering, index in wanted])
        for (answering, index), features in zip(wanted, found, strict=True):
            answering.features[index] = features
        for answering in {id(each): each for each, _ in wanted}.values():
            answering.vision_s += time.perf_counter() - start

    def _compute(self, works: Sequence[Work]) -> list[RequestOutput]:
        """One pass through the model; where that fails, one for each work: a fault costs the request that has it."""
        try:
            logits = self._runner.compute([self._answering[work.job.id].row(work) for work in works])
        except Exception as error:
            if len(works) == 1 or is_out_of_memory(error):
                raise
            outputs = []
            for work in works:
                try:
                    outputs += self._compute([work])
                except Exception as fault:
                    outputs.append(self._fail(self._answering[work.job.id], fault))
            return outputs
        return self._draw(works, logits)

    def _draw(self, works: Sequence[Work], logits: Tensor) -> list[RequestOutput]:
        outputs = []
        counts = [1 + len(work.draft) if work.draws else 0 for work in works]
        chosen = choose_together(logits, counts, [self._answering[work.job.id] for work in works])
        for work, rows, tokens in zip(works, torch.split(logits, counts), chosen, strict=True):
            answering = self._answering[work.job.id]
            if not work.draws:
                self._scheduler.advance(work)
                continue
            try:
                drawn = answering.draw(rows, work.draft, tokens)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # Such as logits that are not numbers, or a fault in a caller's processor.
                outputs.append(self._fail(answering, error))
                continue
            self._scheduler.advance(work, drawn)
            answering.features.clear()
            if answering.finish_reason is not None:
                self._remove(answering, answering.finish_reason)
            outputs.append(answering.output())
            self._tally.drew(len(drawn), outputs[-1].usage)
        return outputs

    def _guess(self, job: Job) -> Sequence[int]:
        vocab_size = self.model.model.config.decoder.vocab_size
        return self._lookups[job.id].guess(job.content, vocab_size)

    def _fail(self, answering: Answering, error: BaseException) -> RequestOutput:
        self._remove(answering, "error")
        return answering.end("error", told(error, answering.id))

    def _remove(self, answering: Answering, reason: EndReason) -> None:
        self._scheduler.remove(answering.job, failed=reason == "error")
        del self._answering[answering.id]
        self._lookups.pop(answering.id, None)
        self._tally.ended(reason)

    def _publish(self) -> None:
        scheduler = self._scheduler
        self._stats = self._tally.snapshot(
            num_waiting=len(scheduler.waiting),
            num_running=len(scheduler.running),
            num_used_blocks=scheduler.pool.num_used,
            num_blocks=scheduler.pool.num_blocks,
            num_preemptions=scheduler.num_preemptions,
        )

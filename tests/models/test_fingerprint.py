"""The hash of what encodes media: computed once, and again when a parameter has changed in place."""

from __future__ import annotations

import pytest
import torch

from videolm.models.fingerprint import VisionFingerprint
from videolm.models.prepacked import prepack_linears

from .tiny import tiny_model


def test_it_is_computed_once_and_again_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    compute = VisionFingerprint._compute
    monkeypatch.setattr(VisionFingerprint, "_compute", lambda self: computed.append(1) or compute(self))
    model = tiny_model()
    fingerprint = VisionFingerprint(model)
    first = fingerprint()
    assert (fingerprint(), len(computed)) == (first, 1)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight[0, 0] += 1
    assert fingerprint() != first
    with torch.no_grad():
        model.lm_head.weight += 1
        model.model.language_model.norm.weight += 1
    assert (fingerprint(), len(computed)) == (fingerprint(), 2)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor")
def test_weights_that_are_laid_out_are_the_same_and_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().to(torch.bfloat16)
    plain = VisionFingerprint(model)()
    prepack_linears(model)
    fingerprint = VisionFingerprint(model)
    assert fingerprint() == plain
    monkeypatch.setattr(VisionFingerprint, "_compute", lambda self: pytest.fail("hashed again"))
    assert fingerprint() == plain


def test_whatever_is_put_in_the_place_of_something_is_seen() -> None:
    model = tiny_model()
    fingerprint = VisionFingerprint(model)
    first = fingerprint()
    projector = model.model.multi_modal_projector
    old = projector.linear_1.weight
    projector.linear_1.weight = torch.nn.Parameter(old.detach() * 2)
    second = fingerprint()
    projector.linear_1 = torch.nn.Linear(projector.linear_1.in_features, projector.linear_1.out_features)
    third = fingerprint()
    projector.register_buffer("shift", torch.ones(3))
    fourth = fingerprint()
    projector.shift = torch.zeros(3)
    assert len({first, second, third, fourth, fingerprint()}) == 5
    del projector.shift
    assert fingerprint() == third

"""The whole model: packed, cached and one-by-one runs agree; media and placeholders are checked before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from videolm.contracts import Features, ModelInputs
from videolm.errors import ArgumentError, PlaceholderMismatchError, ProcessingError
from videolm.models.attention import CausalPlan, PackedPlan, PaddedPlan
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import TokenBudget

from .tiny import CONFIG, PLACEHOLDER, TOKENS, clip, pack, picture, prompt, tiny_model, with_video

FIRST = prompt([1, 2], clip(2), [3, 4, 5])
SECOND = prompt([1], picture(), [6], clip(3, seed=2), [7, 8])
TEXT = prompt([1, 9, 10, 11])


@torch.no_grad()
def test_packed_prompts_match_each_alone() -> None:
    model = tiny_model()
    packed = model.forward_packed(pack(FIRST, SECOND, TEXT))
    alone = [model.forward_packed(pack(inputs)) for inputs in (FIRST, SECOND, TEXT)]

    torch.testing.assert_close(packed, torch.cat(alone))


@torch.no_grad()
def test_chosen_positions_give_their_rows_of_all_logits() -> None:
    model = tiny_model()
    batch = pack(FIRST, TEXT)
    positions = torch.tensor([3, len(FIRST.input_ids) - 1, len(FIRST.input_ids) + 2])

    torch.testing.assert_close(
        model.forward_packed(batch, logits_positions=positions), model.forward_packed(batch)[positions]
    )


@pytest.mark.parametrize("inputs", [FIRST, SECOND, TEXT])
def test_prefill_gives_the_last_row_of_the_full_forward(inputs: ModelInputs) -> None:
    model = tiny_model()
    with torch.no_grad():
        full = model.forward_packed(pack(inputs))

    torch.testing.assert_close(model.prefill(inputs, model.new_cache()), full[-1])


def test_greedy_steps_match_the_full_forward_of_what_they_made() -> None:
    model = tiny_model()
    cache = model.new_cache()
    logits = [model.prefill(SECOND, cache)]
    made: list[int] = []
    for _ in range(12):
        made.append(int(logits[-1].argmax()))
        logits.append(model.step(made[-1], cache))
    whole = replace(SECOND, input_ids=(*SECOND.input_ids, *made))
    with torch.no_grad():
        full = model.forward_packed(pack(whole))[len(SECOND.input_ids) - 1 :]

    torch.testing.assert_close(torch.stack(logits), full)
    assert torch.equal(full.argmax(-1)[:-1], torch.tensor(made))
    assert cache.length == len(whole.input_ids)


@pytest.mark.parametrize("held", [1, 4, 6, 15, 28, 40, 41, 42])
def test_a_cache_that_holds_part_of_the_prompt_is_continued(held: int) -> None:
    model = tiny_model()
    assert len(SECOND.input_ids) > 42
    cache = model.new_cache()
    expected = model.prefill(SECOND, cache)
    model.step(5, cache)
    cache.truncate(held)

    torch.testing.assert_close(model.prefill(SECOND, cache), expected)
    assert cache.length == len(SECOND.input_ids)


def test_a_cache_that_holds_the_whole_prompt_runs_its_last_token_again() -> None:
    model = tiny_model()
    cache = model.new_cache()
    expected = model.prefill(FIRST, cache)

    torch.testing.assert_close(model.prefill(FIRST, cache), expected)


def test_known_features_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    expected = model.prefill(SECOND, model.new_cache())
    with torch.no_grad():
        features = model.encode_media(SECOND.media)
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_: pytest.fail("the tower ran"))

    torch.testing.assert_close(model.prefill(SECOND, model.new_cache(), features=features), expected)


def test_media_that_the_cache_holds_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    cache = model.new_cache()
    model.prefill(FIRST, cache)
    longer = replace(FIRST, input_ids=(*FIRST.input_ids, 8, 9))
    expected = model.prefill(longer, model.new_cache())
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_: pytest.fail("the tower ran"))

    torch.testing.assert_close(model.prefill(longer, cache), expected)


@torch.no_grad()
def test_media_are_encoded_together_as_alone_in_any_batch_size() -> None:
    model = tiny_model()
    media = [clip(3), picture(), clip(1, seed=5), picture((40, 12), seed=6)]
    alone = [model.encode_media([medium])[0].tokens for medium in media]
    for size in (None, 1, 2, 4, 100):
        together = model.encode_media(media, max_tiles_per_batch=size)
        torch.testing.assert_close([feature.tokens for feature in together], alone)


def test_a_large_tower_is_fed_few_frames_at_a_time_unless_gradients_are_recorded() -> None:
    model = tiny_model()
    calls: list[int] = []
    model.model.vision_tower.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    model.model._tiles_per_batch = lambda num_tiles: 2 if not torch.is_grad_enabled() else num_tiles  # type: ignore[method-assign]
    with torch.no_grad():
        model.encode_media([clip(5)])
    model.encode_media([clip(5)])

    assert calls == [2, 2, 1, 5]


@torch.no_grad()
def test_pooling_before_and_after_the_projector_differ() -> None:
    before = tiny_model()
    after = tiny_model(replace(CONFIG, fusion=replace(CONFIG.fusion, pool_position="after_projector")))
    after.load_state_dict(before.state_dict())
    first, second = before.encode_media([clip()])[0].tokens, after.encode_media([clip()])[0].tokens

    assert first.shape == second.shape
    assert (first - second).abs().max() > 0.01


@torch.no_grad()
def test_pooling_before_or_after_a_linear_projector_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny_model()
    after = tiny_model(replace(CONFIG, fusion=replace(CONFIG.fusion, pool_position="after_projector")))
    for model in (before, after):
        monkeypatch.setattr(model.model.multi_modal_projector, "activation", lambda hidden: hidden)

    torch.testing.assert_close(before.encode_media([clip()])[0].tokens, after.encode_media([clip()])[0].tokens)


@pytest.mark.parametrize("newline", ["none", "grid", "frame", "one_token"])
@pytest.mark.parametrize("pool", ["average", "max", "conv", "bilinear", None])
@torch.no_grad()
def test_every_video_layout_fills_its_placeholders(newline: str, pool: str | None) -> None:
    config = with_video(newline=newline, pool=pool, stride=3)
    features = tiny_model(config).encode_media([clip(2, config=config)])[0].tokens

    assert features.shape == (config.tokens.video.count(2), CONFIG.decoder.hidden_size)
    assert features.isfinite().all()


@torch.no_grad()
def test_several_layers_are_joined_and_class_tokens_kept() -> None:
    tokens = replace(TOKENS, video=replace(TOKENS.video, pool=None, keep_class_token=True))
    config = replace(CONFIG, tokens=tokens, fusion=replace(CONFIG.fusion, feature_layers=(0, -1)))
    model = tiny_model(config)
    medium = clip(2, config=config)
    states = model.model.vision_tower(medium.pixel_values, [0, 3])
    expected = model.model.multi_modal_projector(torch.cat(states, dim=-1)).flatten(0, 1)

    assert model.model.multi_modal_projector.linear_1.in_features == 32
    torch.testing.assert_close(model.encode_media([medium])[0].tokens, expected)


def test_a_medium_with_another_token_count_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_: pytest.fail("the tower ran"))

    with pytest.raises(PlaceholderMismatchError, match=r"Medium 1 \(video, 2 tiles or frames\).* 9 visual tokens.* 8 "):
        model.encode_media([clip(3), replace(clip(2), num_tokens=9)])
    with pytest.raises(PlaceholderMismatchError, match=r"Medium 0 \(image, 2 tiles"):
        model.encode_media([replace(picture(), pixel_values=torch.zeros(2, 3, 16, 16))])
    with pytest.raises(ProcessingError, match=r"shape \[2, 3, 14, 16\]: this model takes .*3, 16, 16"):
        model.encode_media([replace(clip(2), pixel_values=torch.zeros(2, 3, 14, 16))])
    with pytest.raises(ProcessingError, match=r"shape \[0, 3, 16, 16\]"):
        model.encode_media([replace(clip(2), pixel_values=torch.zeros(0, 3, 16, 16))])


def test_features_and_placeholders_must_be_as_many() -> None:
    model = tiny_model()
    features = [Features(tokens=torch.zeros(3, 24))]

    with pytest.raises(PlaceholderMismatchError, match="give 3 visual tokens but the prompt holds 2 placeholders"):
        model.embed(torch.tensor([1, 2, 3]), torch.tensor([0, 1]), features)


def test_an_empty_prompt_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(ProcessingError, match="no tokens"):
        model.prefill(ModelInputs(input_ids=()), model.new_cache())


@torch.no_grad()
def test_placeholders_outside_the_vocabulary_never_reach_the_table() -> None:
    model = tiny_model()
    rows = torch.arange(48, dtype=torch.float32).view(2, 24)
    ids = torch.tensor([[5, PLACEHOLDER], [-200, 6]])
    embeds = model.embed(ids, torch.tensor([1, 2]), [Features(tokens=rows)])
    table = model.model.language_model.embed_tokens.weight

    assert torch.equal(embeds, torch.stack([torch.stack([table[5], rows[0]]), torch.stack([rows[1], table[6]])]))


def test_looking_a_placeholder_up_leaves_no_gradient_in_the_table() -> None:
    model = tiny_model()
    ids = torch.tensor([5, PLACEHOLDER])
    model.embed(ids, torch.tensor([1]), [Features(tokens=torch.zeros(1, 24))]).sum().backward()
    gradient = model.model.language_model.embed_tokens.weight.grad

    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [5]


@torch.no_grad()
def test_a_left_padded_batch_gives_what_each_row_gives_alone() -> None:
    model = tiny_model()
    prompts = (FIRST, TEXT)
    longest = max(len(inputs.input_ids) for inputs in prompts)
    ids = torch.zeros(2, longest, dtype=torch.long)
    mask = torch.zeros(2, longest, dtype=torch.long)
    visual = []
    for row, inputs in enumerate(prompts):
        offset = longest - len(inputs.input_ids)
        ids[row, offset:] = torch.tensor(inputs.input_ids)
        mask[row, offset:] = 1
        for start, medium in zip(inputs.media_starts, inputs.media, strict=True):
            visual += range(row * longest + offset + start, row * longest + offset + start + medium.num_tokens)
    embeds = model.embed(ids, torch.tensor(visual), model.encode_media(FIRST.media))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    hidden = model.decode(embeds, position_ids=positions, plan=PaddedPlan.of(mask, longest))

    for row, inputs in enumerate(prompts):
        expected = model.forward_packed(pack(inputs))
        torch.testing.assert_close(model.logits(hidden[row, -len(inputs.input_ids) :]), expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_autocast_trains_close_to_float32(checkpointing: bool) -> None:
    model = tiny_model()
    batch = pack(FIRST, SECOND)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        model.gradient_checkpointing_enable(checkpointing and enabled)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model.forward_packed(batch)
        assert logits.dtype == (torch.bfloat16 if enabled else torch.float32)
        logits.float().logsumexp(-1).mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    single, half = gradients

    assert single.keys() == half.keys()
    for name, gradient in half.items():
        assert gradient.dtype == torch.float32
        cosine = torch.cosine_similarity(gradient.flatten(), single[name].flatten(), dim=0)
        assert cosine > 0.9 or single[name].norm() < 1e-3, (name, cosine)  # eight bits of mantissa through five layers


def test_checkpointing_gives_the_same_gradients_of_the_whole_model() -> None:
    model = tiny_model()
    batch = pack(FIRST, SECOND)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model.forward_packed(batch).logsumexp(-1).mean().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    kept = gradients()
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients(), kept, rtol=0, atol=0)


def test_parameters_that_get_no_gradient_are_those_that_cannot_matter() -> None:
    model = tiny_model()
    model.forward_packed(pack(FIRST, SECOND)).logsumexp(-1).mean().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}

    assert all(name.startswith(("model.vision_tower.encoder.layers.2.", "model.vision_tower.post")) for name in idle)


@pytest.mark.parametrize("inputs", [TEXT, FIRST, prompt([1], picture(), [2])])
def test_any_batch_can_be_made_to_use_every_parameter_without_effect(inputs: ModelInputs) -> None:
    model = tiny_model(with_video(pool="conv"))
    used_by_all_media = pack(prompt([1], picture(), clip(), [2]))
    model.forward_packed(used_by_all_media).sum().backward()
    expected_names = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = model.forward_packed(pack(inputs))
    model.zero_grad()
    model.always_encode_media = True
    logits = model.forward_packed(pack(inputs))
    logits.sum().backward()

    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == expected_names
    if inputs is TEXT:
        gradient = model.model.vision_tower.embeddings.patch_embedding.weight.grad
        assert gradient is not None
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_model_of_any_dtype_answers_and_keeps_float32_keys_on_a_cpu(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    cache = model.new_cache()
    model.prefill(SECOND, cache)
    logits = model.step(4, cache)

    assert (model.dtype, logits.dtype) == (dtype, dtype)
    assert cache.layer(0)[0].dtype == torch.float32
    assert logits.isfinite().all()


def test_a_tied_head_is_the_embedding_table_also_after_moving_off_meta() -> None:
    with torch.device("meta"):
        model = VideoLM(replace(CONFIG, tie_word_embeddings=True))
    model.to_empty(device="cpu")
    model.tie_weights()

    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert "lm_head.weight" not in dict(model.named_parameters())
    assert tiny_model().lm_head.weight is not tiny_model().model.language_model.embed_tokens.weight


@torch.no_grad()
def test_all_plans_agree_on_one_sequence() -> None:
    model = tiny_model()
    embeds = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(7)[None]
    plans = [CausalPlan.of(7), PackedPlan.of((7,)), PaddedPlan.of(torch.ones(1, 7), 7)]
    with sdpa_kernel(SDPBackend.MATH):
        first, second, third = (model.decode(embeds, position_ids=positions, plan=plan) for plan in plans)

    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, third)


@torch.no_grad()
def test_shapes_can_be_followed_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = VideoLM(CONFIG)
    features = model.encode_media([clip(3), picture()])

    assert [feature.tokens.shape for feature in features] == [(12, 24), (picture().num_tokens, 24)]
    assert model.forward_packed(pack(FIRST, TEXT)).shape == (len(FIRST.input_ids) + len(TEXT.input_ids), 60)


def test_a_medium_may_stretch_the_positions_of_its_prompt() -> None:
    stretched = tiny_model(replace(CONFIG, decoder=replace(CONFIG.decoder, rope_factor=2.0)))
    model, medium = tiny_model(), clip()
    plain, chosen = prompt([1, 2], medium, [3]), prompt([1, 2], replace(medium, rope_factor=2.0), [3])
    cache = model.new_cache()
    expected = stretched.prefill(plain, stretched.new_cache())
    assert not torch.allclose(model.prefill(plain, cache), expected)
    torch.testing.assert_close(model.prefill(chosen, cache), expected)  # What the cache held is not used.
    packed = model.forward_packed(pack(plain, chosen), logits_positions=torch.tensor([10, 21]))
    torch.testing.assert_close(packed, torch.stack([model.prefill(plain, model.new_cache()), expected]))
    assert model.config.decoder.context_len(chosen.media) == 2 * CONFIG.decoder.max_position_embeddings


def test_a_medium_may_be_pooled_with_another_stride() -> None:
    coarse, medium = with_video(stride=4), clip()
    model, other = tiny_model(), tiny_model(coarse)
    pooled = replace(clip(config=coarse), budget=TokenBudget(stride=4))
    with torch.inference_mode():
        together = model.encode_media([medium, picture(), pooled])
        torch.testing.assert_close(together[2].tokens, other.encode_media([clip(config=coarse)])[0].tokens)
        torch.testing.assert_close(together[0].tokens, model.encode_media([medium])[0].tokens)
    assert [len(features.tokens) for features in together] == [8, picture().num_tokens, 2]


def test_learned_pooling_has_one_stride() -> None:
    with pytest.raises(ArgumentError, match="pooled with the stride 4, but this model's pooling is conv, with 2"):
        with_video(pool="conv").tokens.video.within(TokenBudget(stride=4))

"""Ids and labels of whole conversations, for every prompt format: what is learned is what generation continues with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from videolm.errors import ProcessingError
from videolm.processing.chat import ChatTemplate
from videolm.processing.processor import Processor
from videolm.processing.prompt import encode_for_learning, encode_prompt
from videolm.processing.tokenizer import Tokenizer

KINDS = ["byte_level", "metaspace_first", "metaspace_always", "legacy_llama"]
TEMPLATES = ["vicuna", "vicuna_without_end", "chatml", "mistral"]

QUESTION = {"role": "user", "content": [{"type": "text", "text": "What colour is it?"}]}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "The circle is red."}]}
SECOND = [{"role": "user", "content": "Where does it move?"}, {"role": "assistant", "content": "It moves left."}]


def learned(ids: list[int], labels: list[int]) -> list[list[int]]:
    """The runs of learned ids."""
    runs: list[list[int]] = [[]]
    for token_id, label in zip(ids, labels, strict=True):
        assert label in (token_id, -100)
        if label == -100:
            runs.append([])
        else:
            runs[-1].append(label)
    return [run for run in runs if run]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_a_prefix_of_its_training_ids_and_the_rest_is_learned(
    make_processor: Callable[..., Processor], template: str, kind: str
) -> None:
    processor = make_processor(template, kind)
    prompt = list(processor.prepare_text([QUESTION], []).input_ids)
    training = processor.prepare_text([QUESTION, ANSWER], [], learn=True)
    ids, labels = list(training.input_ids), list(training.labels)
    end = processor.tokenizer.token_to_id("<|im_end|>" if template == "chatml" else "</s>")

    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [-100] * len(prompt)
    (run,) = learned(ids, labels)
    assert ids[len(prompt) : len(prompt) + len(run)] == run
    assert run[-1] == end
    assert processor.tokenizer.decode(run[:-1]).strip() == "The circle is red."


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_answer_of_several_turns_is_learned(
    make_processor: Callable[..., Processor], template: str, kind: str
) -> None:
    processor = make_processor(template, kind)
    training = processor.prepare_text([QUESTION, ANSWER, *SECOND], [], learn=True)
    runs = learned(list(training.input_ids), list(training.labels))
    assert [processor.tokenizer.decode(run).strip() for run in runs] == ["The circle is red.", "It moves left."]


def test_the_learned_part_of_the_vicuna_format_is_space_answer_end(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor("vicuna", "byte_level")
    training = processor.prepare_text([QUESTION, ANSWER, *SECOND], [], learn=True)
    runs = learned(list(training.input_ids), list(training.labels))
    texts = [processor.tokenizer.decode(run, skip_special_tokens=False) for run in runs]
    assert texts == [" The circle is red.</s>", " It moves left.</s>"]
    assert processor.tokenizer.decode(training.input_ids, skip_special_tokens=False) == (
        "<s>USER: What colour is it? ASSISTANT: The circle is red.</s>"
        "USER: Where does it move? ASSISTANT: It moves left.</s>"
    )


def test_a_template_without_end_tokens_gets_the_tokenizers(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor("vicuna_without_end", "byte_level")
    training = processor.prepare_text([QUESTION, ANSWER, *SECOND], [], learn=True)
    assert processor.tokenizer.decode(training.input_ids, skip_special_tokens=False) == (
        "<s>USER: What colour is it? ASSISTANT: The circle is red.</s>"
        " USER: Where does it move? ASSISTANT: It moves left.</s>"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_special_strings_in_learned_texts_stay_text(make_processor: Callable[..., Processor], kind: str) -> None:
    processor = make_processor("vicuna", kind)
    question = {"role": "user", "content": "What is </s> or <video>?"}
    answer = {"role": "assistant", "content": "It is </s>, a string."}
    prompt = list(processor.prepare_text([question], []).input_ids)
    training = processor.prepare_text([question, answer], [], learn=True)
    assert list(training.input_ids[: len(prompt)]) == prompt
    (run,) = learned(list(training.input_ids), list(training.labels))
    assert run.count(processor.tokenizer.eos_token_id) == 1
    assert run[-1] == processor.tokenizer.eos_token_id
    assert processor.tokenizer.decode(run[:-1]).strip() == "It is </s>, a string."


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_across_the_start_of_an_answer_is_split(tokenizers_by_kind: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers_by_kind[kind]
    # "cir" ends the prompt, "cle" is the answer: whole, they are one token.
    source = "{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}{{ '</s>' if messages | length > 1 }}"
    template = ChatTemplate(source)
    chat = template.render(
        [{"role": "user", "content": "cir"}, {"role": "assistant", "content": "cle"}], False, find_answers=True
    )
    ids, labels = encode_for_learning(tokenizer, chat)
    prompt = encode_prompt(tokenizer, template.render([{"role": "user", "content": "cir"}]))
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode(ids) == "circle"
    assert labels == [-100] * len(prompt) + ids[len(prompt) :]


def test_marks_decide_where_an_answer_begins_if_the_prompt_does_not(tokenizers_by_kind: dict[str, Tokenizer]) -> None:
    source = (
        "{% for m in messages %}{{ m['role'] + ':' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ '!' + m['content'][0]['text'] + '</s>' }}{% endgeneration %}{% else %}"
        "{{ m['content'][0]['text'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:?' }}{% endif %}"
    )
    chat = ChatTemplate(source).render([QUESTION, ANSWER], False, find_answers=True)
    tokenizer = tokenizers_by_kind["byte_level"]
    (run,) = learned(*encode_for_learning(tokenizer, chat))
    assert tokenizer.decode(run, skip_special_tokens=False) == "!The circle is red.</s>"


@pytest.mark.parametrize("kind", KINDS)
def test_marks_that_begin_after_the_space_still_learn_what_generation_continues_with(
    make_processor: Callable[..., Processor], kind: str
) -> None:
    plain = make_processor("vicuna", kind)
    loop = "{% for part in message['content'] %}"
    marked = plain.chat_template.source.replace(loop, "{% generation %}" + loop)
    marked = marked.replace("{{ eos_token }}", "{{ eos_token }}{% endgeneration %}")
    template = ChatTemplate(marked, special_tokens=plain.tokenizer.special_tokens)
    processor = make_processor("vicuna", kind, chat_template=template)
    messages = [QUESTION, ANSWER, *SECOND]
    assert processor.prepare_text(messages, [], learn=True) == plain.prepare_text(messages, [], learn=True)


def test_a_conversation_without_an_answer_cannot_be_learned(make_processor: Callable[..., Processor]) -> None:
    with pytest.raises(ProcessingError, match="no message of the assistant"):
        make_processor().prepare_text([QUESTION], [], learn=True)


def test_without_any_end_token_learning_says_so(make_processor: Callable[..., Processor]) -> None:
    processor = make_processor("vicuna_without_end")
    tokenizer = Tokenizer(processor.tokenizer._backend, {})
    chat = processor.chat_template.render([QUESTION, ANSWER], False, find_answers=True)
    with pytest.raises(ProcessingError, match="names none"):
        encode_for_learning(tokenizer, chat)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_prompts_have_the_ids_of_the_rendered_string(
    make_processor: Callable[..., Processor], template: str, kind: str
) -> None:
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.chat_template_utils import render_jinja_template

    processor = make_processor(template, kind)
    messages = [QUESTION, ANSWER, {"role": "user", "content": [{"type": "text", "text": "Where does it move?  "}]}]
    rendered, _ = render_jinja_template(
        [messages],
        chat_template=processor.chat_template.source,
        add_generation_prompt=True,
        **processor.tokenizer.special_tokens,
    )
    theirs = PreTrainedTokenizerFast(tokenizer_object=processor.tokenizer._backend)
    expected = theirs(rendered[0], add_special_tokens=not rendered[0].startswith("<s>"))["input_ids"]
    assert list(processor.prepare_text(messages, []).input_ids) == expected

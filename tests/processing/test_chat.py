"""Chat templates: rendered as transformers does, in a sandbox, with people's texts kept track of."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.errors import CheckpointError, ProcessingError
from videolm.processing.chat import ChatTemplate

JOIN = "{% for m in messages %}[{{ m['role'] }}]{% for p in m['content'] %}{{ p.text }}|{% endfor %}{% endfor %}"
QUESTION = [{"role": "user", "content": "Hi?"}]


def users(*texts: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]


def written(template: ChatTemplate, messages: list[dict[str, object]]) -> list[str]:
    chat = template.render(messages)
    return [chat.text[start:end] for start, end in chat.foreign]


@settings(max_examples=60)
@given(st.lists(st.text(min_size=1).filter(str.strip).filter(lambda t: t.isprintable()), min_size=1, max_size=3))
def test_every_text_is_found_where_it_stands(texts: list[str]) -> None:
    assert written(ChatTemplate(JOIN), users(*texts)) == texts


@pytest.mark.parametrize(
    ("change", "expected"),
    [("trim", "a b"), ("string", "  a b "), ("replace('x', 'y')", "  a b ")],
)
def test_templates_may_trim_texts(change: str, expected: str) -> None:
    template = ChatTemplate("<{{ messages[0]['content'][0]['text'] | " + change + " }}>")
    assert written(template, users("  a b ")) == [expected]


@pytest.mark.parametrize("change", ["upper", "reverse", "replace('a', 'b')", "length"])
def test_templates_that_rewrite_texts_are_refused(change: str) -> None:
    template = ChatTemplate("{{ messages[0]['content'][0]['text'] | " + change + " }}")
    with pytest.raises(ProcessingError, match="rewrites the text"):
        template.render(users("a b"))


def test_templates_for_string_content_are_refused() -> None:
    with pytest.raises(ProcessingError, match="rewrites the text"):
        ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}").render(QUESTION)


def test_texts_that_hold_the_usual_marks_are_followed() -> None:
    text = "".join(chr(code) for code in range(0xFDD0, 0xFDF0)) + "x"
    assert written(ChatTemplate(JOIN), users(text)) == [text]


def test_blocks_are_trimmed_as_in_transformers() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source = (
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n  {{ m.content[0].text }}\n    {% endif %}\n"
        "{% generation %}\n  x{% endgeneration %}\n{% if loop.last %}{% break %}{% endif %}{% endfor %}\n"
        "{{ {'a': '<é>'} | tojson }}{{ bos_token }}{{ add_generation_prompt }}"
    )
    messages = users("one") + users("two")
    theirs, _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=True, bos_token="<s>")
    assert ChatTemplate(source, special_tokens={"bos_token": "<s>"}).render(messages).text == theirs[0]


def test_strftime_now_is_there() -> None:
    text = ChatTemplate("{{ strftime_now('%Y') }}" + JOIN).render(QUESTION).text
    assert text[:4].isdigit()


def test_a_template_can_refuse_a_conversation() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ProcessingError, match="roles must alternate"):
        template.render(QUESTION)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__.os.popen('id') }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ range(10000000) | list | length }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'a' * 999999999 }}",
        "{{ [1] * 999999999 }}",
    ],
)
def test_escapes_from_the_sandbox_are_refused(attack: str) -> None:
    with pytest.raises((CheckpointError, ProcessingError)):
        ChatTemplate(attack + JOIN).render(QUESTION)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ self._TemplateReference__context }}",
        "{{ messages | attr('__class__') }}",
        "{{ videolm_marks.__dict__ }}",
    ],
)
def test_private_attributes_are_as_if_they_were_not_there(attack: str) -> None:
    assert ChatTemplate(attack + JOIN).render(QUESTION).text == "[user]Hi?|"


@pytest.mark.parametrize("attack", ["{% include '/etc/passwd' %}", "{% import 'os' as os %}{{ os }}"])
def test_templates_load_no_files(attack: str) -> None:
    with pytest.raises((CheckpointError, ProcessingError)):
        ChatTemplate(attack + JOIN).render(QUESTION)


def test_a_template_that_is_none_says_so() -> None:
    with pytest.raises(CheckpointError, match="cannot be compiled"):
        ChatTemplate("{% for %}")


def test_folders_are_read_in_the_order_of_transformers(tmp_path: Path) -> None:
    assert ChatTemplate.from_folder(tmp_path) is None
    named = [{"name": "default", "template": "by name"}, {"name": "other", "template": "x"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.from_folder(tmp_path).source == "by name"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "by json"}))
    assert ChatTemplate.from_folder(tmp_path).source == "by json"
    (tmp_path / "chat_template.jinja").write_text("by jinja")
    assert ChatTemplate.from_folder(tmp_path).source == "by jinja"


def test_templates_can_be_pickled() -> None:
    template = ChatTemplate(JOIN + "{{ bos_token }}", special_tokens={"bos_token": "<s>"})
    assert pickle.loads(pickle.dumps(template)).render(QUESTION) == template.render(QUESTION)

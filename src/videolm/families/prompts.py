"""Chat templates for folders that bring none: the prompt formats that the original models were trained with."""

from __future__ import annotations

__all__ = [
    "CHATML_TEMPLATE",
    "LLAMA_3_TEMPLATE",
    "MISTRAL_TEMPLATE",
    "QWEN_TEMPLATE",
    "VICUNA_HUMAN_TEMPLATE",
    "VICUNA_TEMPLATE",
]

# In all of them the media of a message stand before its text, in the order given, one to a line.
_PIECES = (
    "{%- macro media(message) -%}"
    "{%- if message['content'] is not string -%}"
    "{%- for part in message['content'] if part['type'] in ('image', 'video') -%}"
    "{{- '<' + part['type'] + '>\\n' -}}"
    "{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- macro words(message) -%}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{{- ('' if loop.first else ' ') + part['text'] -}}"
    "{%- endfor -%}{%- endif -%}{%- endmacro -%}"
)

VICUNA_TEMPLATE = (
    _PIECES + "{%- if messages[0]['role'] != 'system' -%}"
    "{{- 'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user\\'s questions. ' -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- words(message) + ' ' -}}"
    "{%- elif message['role'] == 'user' -%}{{- 'USER: ' + media(message) + words(message) + ' ' -}}"
    "{%- else -%}{{- 'ASSISTANT: ' -}}{% generation %}{{- words(message) + '</s>' -}}{% endgeneration %}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)
"""Vicuna v1.1: the 7B checkpoints."""

VICUNA_HUMAN_TEMPLATE = VICUNA_TEMPLATE.replace("a curious user", "a curious human").replace("the user", "the human")
"""The same with the words of Video-LLaVA's demonstration and evaluation."""

MISTRAL_TEMPLATE = (
    _PIECES + "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- words(message) + ' ' -}}"
    "{%- elif message['role'] == 'user' -%}{{- '[INST] ' + media(message) + words(message) + ' [/INST]' -}}"
    "{%- else -%}{{- ' ' -}}{% generation %}{{- words(message) + '</s>' -}}{% endgeneration %}"
    "{%- endif -%}{%- endfor -%}"
)
"""Mistral instruct: the 7B-32K checkpoint."""

CHATML_TEMPLATE = (
    _PIECES + "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nAnswer the questions.<|im_end|>' -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{- words(message) + '<|im_end|>' -}}{% endgeneration %}"
    "{%- else -%}{{- media(message) + words(message) + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML without a newline after the end marker: the 34B checkpoints."""

QWEN_TEMPLATE = (
    _PIECES + "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{- words(message) + '<|im_end|>' -}}{% endgeneration %}{{- '\\n' -}}"
    "{%- else -%}{{- media(message) + words(message) + '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML as Qwen1.5 and Qwen2 write it: a system message, and a newline after each end marker."""

LLAMA_3_TEMPLATE = (
    _PIECES + "{%- macro head(role) -%}{{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' -}}{%- endmacro -%}"
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- head('system') + 'You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural language.<|eot_id|>' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- head(message['role']) -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{- words(message) + '<|eot_id|>' -}}{% endgeneration %}"
    "{%- else -%}{{- media(message) + words(message) + '<|eot_id|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- head('assistant') -}}{%- endif -%}"
)
"""Llama 3 with the words of ``llava_llama_3``: the picture models of that line."""

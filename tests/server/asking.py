"""What several tests of the server ask."""

from typing import Any

MODEL = "videolm-mini"
PATH = "/v1/chat/completions"
# Drawn so freely that the end comes late.
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hello"}],
    "temperature": 1000,
    "seed": 1,
    "max_tokens": 200,
}

"""Ask several questions about one file through a load balancer that routes by media: ``ask.py URL FILE QUESTION...``.

Every request carries a hash of the file, so that the replica that has it answers. Needs ``pip install openai``.
"""

import hashlib
import sys
from pathlib import Path

from openai import OpenAI


def main(base_url: str, path: str, questions: list[str]) -> None:
    data = Path(path).read_bytes()
    client = OpenAI(
        base_url=f"{base_url}/v1",
        api_key="none",
        default_headers={"X-Media-Key": hashlib.sha256(data).hexdigest()},
    )
    model = client.models.list().data[0].id
    upload = client.files.create(file=(Path(path).name, data), purpose="user_data")
    for question in questions:
        content = [{"type": "file", "file": {"file_id": upload.id}}, {"type": "text", "text": question}]
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
        assert answer.usage is not None
        details = answer.usage.prompt_tokens_details
        cached = details.cached_tokens if details is not None else 0
        print(f"{answer.choices[0].message.content}  [{cached} of {answer.usage.prompt_tokens} prompt tokens cached]")
    client.files.delete(upload.id)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

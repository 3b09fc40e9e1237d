"""Rows with answers and a chat tokenizer, for several tests."""

import json
from pathlib import Path

from unmask.data.tokenizing.tokenizers import Tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}[EOS]{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count: int = 40) -> list[dict]:
    return [{"prompt": f"{i}+{i % 7}=", "answer": f" {i + i % 7}.", "id": i} for i in range(count)]


def chat_tokenizer(folder: Path) -> Path:
    """A folder with a byte tokenizer and a chat template."""
    tokenizer = Tokenizer.train(["user assistant"], 261)
    tokenizer.settings["chat_template"] = TEMPLATE
    tokenizer.save(folder)
    return folder

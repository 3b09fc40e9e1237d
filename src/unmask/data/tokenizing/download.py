"""Download the tokenizer of a model on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from unmask.data.tokenizing.roles import CONFIG, SPECIALS, TEMPLATE


def download_tokenizer(name: str) -> Path:
    """Download the tokenizer files of a hub model and return their folder.

    Args:
        name: name of a model on the Hugging Face hub.

    Raises:
        ValueError: ``name`` is no such name, or the files cannot be downloaded.
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) or name.endswith(".json"):
        raise ValueError(
            f"There is no tokenizer at '{name}'. Pass a tokenizer.json, a folder that holds one, or the name of a model on "
            "the Hugging Face hub; `unmask prepare` trains a new one when no tokenizer is given."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        for optional in (SPECIALS, CONFIG, TEMPLATE):
            try:
                hf_hub_download(name, optional)
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
        return Path(hf_hub_download(name, "tokenizer.json")).parent
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"There is no file or folder '{name}', and the tokenizer of that name could not be downloaded from the Hugging Face "
            f"hub ({type(error).__name__}). Check the spelling and the network, or pass the path of a tokenizer.json."
        ) from error

"""Upload an exported folder to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path


def push(folder: str | Path, name: str, private: bool = False) -> str:
    """Create a model repository on the hub if there is none, and upload a folder into it.

    The token is that of ``hf auth login`` or of the environment variable ``HF_TOKEN``.

    Args:
        folder: an exported folder.
        name: of the repository, such as ``user/model``.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        ValueError: the name is not a repository name, or the hub refused the upload.
    """
    check_name(name)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        commit = hub.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Upload from unmask export")
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"The hub did not accept {name} ({reason}). The folder {folder} is complete. Log in with `hf auth login`, check that "
            "the name's first part is your user or organisation, and push again."
        ) from error
    return str(commit)


def check_name(name: str) -> None:
    """Refuse what cannot be a repository name, before anything is written.

    Raises:
        ValueError: the name is not of the form ``user/model`` or ``model``.

    Examples:
        >>> check_name("someone/demo")
    """
    if not re.fullmatch(r"([\w][\w.-]*/)?[\w][\w.-]*", name):
        raise ValueError(f"--push {name!r} is not a repository name: give one such as user/model.")

"""Models on a hub: fetch a repository of ours by its name, or upload one, by the library huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path

from infinity.checkpoint import MARKER_FILE
from infinity.generation.files.model_folder import ModelNotFoundError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class HubError(ValueError):
    """A hub refused, or could not be reached."""


def is_hub_name(model: str) -> bool:
    """Return whether a text can be the name ``owner/model`` of a repository; a folder of that path goes first."""
    return _NAME.fullmatch(model) is not None and not Path(model).exists()


def fetch_model(name: str, *, revision: str | None = None) -> str:
    """Return the local folder of a repository, which is downloaded where this machine lacks files of it.

    Args:
        name: Name of the repository, ``owner/model``.
        revision: Branch, tag or commit; None for the main branch.

    Raises:
        HubError: The hub does not have the repository, or cannot be reached and no copy is here.
        ModelNotFoundError: The repository holds no model of ours.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = str(snapshot_download(name, revision=revision))
    except Exception as error:  # the library raises dozens of types, its own, httpx's and OSError
        raise HubError(f"{name}: not a folder here, and the hub did not give it: {_reason(error)}") from error
    if not (Path(folder) / MARKER_FILE).exists():
        raise ModelNotFoundError(
            f"{name}: the repository holds no model folder ({MARKER_FILE}); published files come with 'infinity pull'"
        )
    return folder


def upload_model(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a model folder as a repository, which is made if absent, and return its address.

    Raises:
        HubError: The hub refused, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True, repo_type="model")
        api.upload_folder(folder_path=folder, repo_id=name, repo_type="model", commit_message="Upload model")
    except Exception as error:  # as above
        raise HubError(f"{name}: the hub did not take the model: {_reason(error)}") from error
    return str(url)


def _reason(error: Exception) -> str:
    first = str(error).strip().split("\n", 1)[0]
    return f"{first[:200]} ({type(error).__name__})" if first else type(error).__name__

"""Files that travel: in a folder, by themselves, or of a repository on Hugging Face's hub."""

from __future__ import annotations

import re
from pathlib import Path

from fmawsss.files.tensor_files import MODEL

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-]+")  # NAME/REPOSITORY; a file has an ending


def is_repository(name: str | Path) -> bool:
    """Say whether a name is that of a repository, and of nothing here.

    >>> is_repository("me/prompts"), is_repository("outputs/cls.ckpt"), is_repository("prompts")
    (True, False, False)
    """
    return REPOSITORY.fullmatch(str(name)) is not None and not Path(name).exists()


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """Return the file of a model: in a folder, itself, or of a repository on Hugging Face's hub."""
    return find_shared(name, MODEL, revision=revision)


def find_shared(
    name: str | Path, file: str, kind: str = "model", revision: str | None = None
) -> Path:
    """Return a file: in a folder, itself, or of a repository on Hugging Face's hub.

    kind: of repository, `model` or `dataset`.

    Raises:
        FileNotFoundError: saying what to do, where there is neither file nor network.
    """
    path = Path(name)
    if path.suffix == Path(file).suffix or path.is_dir():
        return path / file if path.is_dir() else path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(name), file, revision=revision, repo_type=kind))
    except Exception as error:  # of the network, the account, the name: the library has many kinds
        place = "datasets/" if kind == "dataset" else ""
        raise FileNotFoundError(
            f"{name} is no folder with {file}, and https://huggingface.co/{place}{name} cannot be "
            f"fetched ({type(error).__name__}): fetch its {file} where the network allows, and "
            "name that file"
        ) from error

"""Files of models: in a folder, by themselves, or of a repository on Hugging Face's hub."""

from __future__ import annotations

from pathlib import Path

from fmawsss.files.tensor_files import MODEL


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """Return the file of a model: in a folder, itself, or of a repository on Hugging Face's hub.

    Raises:
        FileNotFoundError: saying what to do, where there is neither file nor network.
    """
    path = Path(name)
    if path.suffix == Path(MODEL).suffix or path.is_dir():
        return path / MODEL if path.is_dir() else path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(name), MODEL, revision=revision))
    except Exception as error:  # of the network, the account, the name: the library has many kinds
        raise FileNotFoundError(
            f"{name} is no folder with {MODEL}, and https://huggingface.co/{name} cannot be "
            f"fetched ({type(error).__name__}): fetch its {MODEL} where the network allows, and "
            "name that file"
        ) from error

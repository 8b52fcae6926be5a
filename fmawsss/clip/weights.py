"""The published weights of open_clip models: found on disk or downloaded, and made a model."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip
import torch
from jaxtyping import Int
from open_clip.model import CLIP, build_model_from_openai_state_dict
from torch import Tensor

from fmawsss.files.downloads import HUB, NotFetchedError, fetch_file, find_digest
from fmawsss.files.tensor_files import describe_fault, require_finite

ABOUT = {"ViT-B-16.pt": 351_000_000, "ViT-L-14.pt": 933_000_000}  # bytes of OpenAI's archives
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def load_open_clip(name: str, pretrained: str | None, folder: str) -> CLIP:
    """Build an open_clip model in float32 from weights under `folder`.

    Weights that are missing are downloaded to it. `pretrained` is a tag of open_clip (`openai`,
    `laion2b_s34b_b88k`, …) or the name of a weights file in `folder`; None builds it untrained,
    to be filled from a checkpoint.

    Raises:
        ValueError: for an unknown model or tag, and for a file that is broken or belongs to another
            model.
        FileNotFoundError: when there are no weights and no network, naming the address and where
            the file belongs.
    """
    if open_clip.get_model_config(name) is None:
        raise ValueError(f"open_clip knows no model {name!r}: see open_clip.list_models()")
    if pretrained is None:
        return CLIP(**open_clip.get_model_config(name))
    try:
        path = find_weights(name, pretrained, Path(folder))
    except NotFetchedError:  # of the same size, for a plan
        return CLIP(**open_clip.get_model_config(name))
    try:
        model = build_from_file(name, path)
        require_finite(model.named_parameters())
    except Exception as error:  # torch and safetensors have many kinds for one fault
        raise ValueError(
            f"{path} holds no whole weights of {name} ({describe_fault(error)}): delete it, "
            "published ones will be fetched again, or choose the model that they belong to"
        ) from None
    return model


def build_from_file(name: str, path: Path) -> CLIP:
    """Build a model from a file of any kind that open_clip or OpenAI publish."""
    if is_torchscript(path):
        return build_openai_clip(read_torchscript(path))
    return open_clip.create_model(name, pretrained=str(path), precision="fp32", device="cpu")


def open_clip_tokenizer(name: str) -> Callable[[list[str]], Int[Tensor, "T L"]]:
    """Return the tokenizer of an open_clip model: a list of strings to token ids (T, L)."""
    return partial(tokenize_texts, open_clip.get_tokenizer(name))


def tokenize_texts(
    tokenizer: Callable[[list[str]], Tensor], texts: list[str]
) -> Int[Tensor, "T L"]:
    """Tokenize; CLIP's own spelling of the begin and end marks is read as open_clip's."""
    marks = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}
    pattern = re.compile("|".join(map(re.escape, marks)), re.IGNORECASE)
    return tokenizer(
        [pattern.sub(lambda found: marks[found.group().lower()], text) for text in texts]
    )


def build_openai_clip(state: dict[str, Tensor]) -> CLIP:
    """Build a CLIP in float32 from a state dict with OpenAI's keys, of the sizes of its tensors."""
    # the builder passes the weights through fp16, in which they were published
    return build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float()


def find_weights(name: str, pretrained: str, folder: Path) -> Path:
    """Return the weights file of a model, downloading it when it is missing."""
    if (folder / pretrained).is_file():
        return folder / pretrained
    sources = list_sources(name, pretrained, folder)
    there = [path for path in sources if path.is_file()]
    failures = []
    for path, address in {path: sources[path] for path in there or sources}.items():
        try:
            return fetch_file(path, address, about=ABOUT.get(path.name))
        except FileNotFoundError as failure:
            failures.append(failure)
    raise failures[0]


def list_sources(name: str, pretrained: str, folder: Path) -> dict[Path, str]:
    """List where the weights of a model may lie under `folder`, and where each is fetched."""
    entry = open_clip.pretrained.get_pretrained_cfg(name, pretrained)
    if not entry:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise ValueError(
            f"{pretrained!r} is no file in {folder} and no weights of {name}; its tags are {tags}"
        )
    if entry.get("url"):
        return {folder / Path(entry["url"]).name: entry["url"]}
    repository = entry["hf_hub"].strip("/")
    return {
        folder / repository.split("/")[-1] / file: f"{HUB}/{repository}/resolve/main/{file}"
        for file in HUB_FILES
    }


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive, as OpenAI's weights are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in entry for entry in archive.namelist())


def list_archives() -> set[str]:
    """List the SHA-256 of the archives that OpenAI published, which are part of their addresses."""
    names = open_clip.list_pretrained_models_by_tag("openai")
    entries = (open_clip.pretrained.get_pretrained_cfg(name, "openai") for name in names)
    return {digest for entry in entries if (digest := find_digest(entry.get("url", "")))}


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive; raises ValueError unless OpenAI published it.

    Such an archive is a program: another one could run code while it is read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest not in list_archives():
        raise ValueError(
            "it is a TorchScript program, and none that OpenAI published: save its state dict as "
            "safetensors"
        )
    with warnings.catch_warnings():
        # TorchScript is deprecated; OpenAI's files will stay what they are
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path), map_location="cpu").state_dict()

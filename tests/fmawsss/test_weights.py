from __future__ import annotations

import hashlib
import urllib.error
import warnings

import open_clip
import pytest
import torch
from golden_clip import make_small_clip
from golden_tools import load_case
from safetensors.torch import save_file
from torch import nn

from fmawsss.clip import weights
from fmawsss.clip.weights import load_open_clip, open_clip_tokenizer
from fmawsss.files import downloads

OPENAI_ADDRESS = "https://openaipublic.azureedge.net/clip/models/"


class Shell(nn.Module):
    """A module tree of given tensors and names, as in OpenAI's TorchScript archives."""

    def forward(self) -> int:
        return 0


def write_torchscript(state, path):
    root = Shell()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, Shell())
            module = getattr(module, parent)
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # TorchScript is deprecated; OpenAI's archives are what they are
        torch.jit.save(torch.jit.script(root), str(path))


@pytest.fixture
def offline(monkeypatch):
    def refuse(address, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(downloads, "urlopen", refuse)


def test_reads_openai_archives(tmp_path, offline, monkeypatch):
    expected = make_small_clip(
        vision={"width": 64, "head_width": 64}, text={"width": 64, "heads": 1}
    ).state_dict()
    halves = {
        name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in expected.items()
    }
    write_torchscript(halves, tmp_path / "ViT-B-16.pt")
    with pytest.raises(ValueError, match=r"ViT-B-16\.pt.*none that OpenAI published"):
        load_open_clip("ViT-B-16-quickgelu", "openai", str(tmp_path))
    digest = hashlib.sha256((tmp_path / "ViT-B-16.pt").read_bytes()).hexdigest()
    assert len(weights.list_archives()) > 5
    monkeypatch.setattr(weights, "list_archives", lambda: {digest})
    loaded = load_open_clip("ViT-B-16-quickgelu", "openai", str(tmp_path)).state_dict()
    assert loaded.keys() == expected.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-3)


def test_reads_a_weights_file_by_its_name(tmp_path, monkeypatch):
    model = make_small_clip()
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    monkeypatch.setattr(weights.open_clip, "get_model_config", lambda name: {})
    seen = {}
    monkeypatch.setattr(
        weights.open_clip, "create_model", lambda name, **kwargs: seen.update(kwargs) or model
    )
    assert load_open_clip("small", "mine.safetensors", str(tmp_path)) is model
    assert seen["pretrained"] == str(tmp_path / "mine.safetensors")


def test_missing_weights_name_address_and_place(tmp_path, offline):
    with pytest.raises(FileNotFoundError) as caught:
        load_open_clip("ViT-B-16-quickgelu", "openai", str(tmp_path / "weights"))
    assert OPENAI_ADDRESS in str(caught.value)
    assert str(tmp_path / "weights" / "ViT-B-16.pt") in str(caught.value)
    assert not (tmp_path / "weights").exists()


def test_missing_hub_weights_name_address_and_place(tmp_path, offline):
    with pytest.raises(
        FileNotFoundError, match=r"huggingface.co/laion/.*open_clip_model.safetensors"
    ):
        load_open_clip("ViT-B-16", "laion2b_s34b_b88k", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [("ViT-Q", "openai", "knows no model"), ("ViT-B-16", "x", "tags are")],
)
def test_unknown_names_are_refused(name, tag, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_open_clip(name, tag, str(tmp_path))


def test_downloads_are_verified(tmp_path):
    content = b"weights"
    good, bad = hashlib.sha256(content).hexdigest(), "0" * 64
    for digest in (good, bad):
        (tmp_path / digest).mkdir()
        (tmp_path / digest / "w.pt").write_bytes(content)
    target = tmp_path / "new" / "w.pt"
    assert downloads.fetch_file(target, (tmp_path / good / "w.pt").as_uri()) == target
    assert target.read_bytes() == content
    with pytest.raises(FileNotFoundError, match="expected 0000"):
        downloads.fetch_file(tmp_path / "other" / "w.pt", (tmp_path / bad / "w.pt").as_uri())
    assert list((tmp_path / "other").iterdir()) == []


def test_tokens_match_golden_vectors():
    arrays, meta = load_case("case2_prompt/tokenizer_samples")
    ids = open_clip_tokenizer("ViT-B-16-quickgelu")(meta["texts"])
    assert ids.tolist() == arrays["ids"].tolist()


def test_the_builder_reads_other_sizes():
    model = make_small_clip(
        vision={"layers": 2, "width": 128, "head_width": 64}, text={"width": 128, "heads": 2}
    )
    built = weights.build_openai_clip(model.half().state_dict())
    assert built.visual.conv1.out_channels == 128
    assert len(built.visual.transformer.resblocks) == 2
    assert isinstance(
        built.visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU
    )

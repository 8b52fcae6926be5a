"""MobileSAM: the published tensors, the published computation, and masks at real size."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from front_door import run
from hydra.errors import InstantiationException
from PIL import Image
from segment_anything import sam_model_registry
from torch import Tensor

import infer
from fmawsss.files import downloads
from fmawsss.files.storage import read_superpixels
from fmawsss.sam.encoder import FusedEncoder
from fmawsss.sam.mobile import BYTES, MobileEncoder, fuse_norms, load_mobile_sam

# ChaoningZhang/MobileSAM, mobile_sam/build_sam.py
WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
HIDDEN = 4  # times the width, in convolutions and perceptrons
Shapes = dict[str, tuple[int, ...]]


def list_norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def list_linear(name: str, width: int, out: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def list_convolution(name: str, *shape: int) -> Shapes:
    statistics: Shapes = {
        f"{name}.bn.{part}": shape[:1] for part in ("running_mean", "running_var")
    }
    counter: Shapes = {f"{name}.bn.num_batches_tracked": ()}
    return {f"{name}.c.weight": shape, **list_norm(f"{name}.bn", shape[0]), **statistics, **counter}


def list_block(name: str, width: int, heads: int, window: int) -> Shapes:
    return {
        f"{name}.attn.attention_biases": (heads, window**2),
        **list_norm(f"{name}.attn.norm", width),
        **list_linear(f"{name}.attn.qkv", width, 3 * width),
        **list_linear(f"{name}.attn.proj", width, width),
        **list_norm(f"{name}.mlp.norm", width),
        **list_linear(f"{name}.mlp.fc1", width, HIDDEN * width),
        **list_linear(f"{name}.mlp.fc2", HIDDEN * width, width),
        **list_convolution(f"{name}.local_conv", width, 1, 3, 3),
    }


def list_published() -> Shapes:
    """Name every tensor of mobile_sam.pt with its shape, as the published classes define them."""
    found = list_convolution("patch_embed.seq.0", 32, 3, 3, 3)
    found |= list_convolution("patch_embed.seq.2", 64, 32, 3, 3)
    for block in range(DEPTHS[0]):
        name, hidden = f"layers.0.blocks.{block}", HIDDEN * WIDTHS[0]
        found |= list_convolution(f"{name}.conv1", hidden, WIDTHS[0], 1, 1)
        found |= list_convolution(f"{name}.conv2", hidden, 1, 3, 3)
        found |= list_convolution(f"{name}.conv3", WIDTHS[0], hidden, 1, 1)
    for layer in range(1, 4):
        for block in range(DEPTHS[layer]):
            name = f"layers.{layer}.blocks.{block}"
            found |= list_block(name, WIDTHS[layer], HEADS[layer], WINDOWS[layer])
    for layer, (width, out) in enumerate(pairwise(WIDTHS)):
        name = f"layers.{layer}.downsample"
        found |= list_convolution(f"{name}.conv1", out, width, 1, 1)
        found |= list_convolution(f"{name}.conv2", out, 1, 3, 3)
        found |= list_convolution(f"{name}.conv3", out, out, 1, 1)
    found |= list_norm("norm_head", WIDTHS[-1]) | list_linear("head", WIDTHS[-1], 1000)
    found |= {"neck.0.weight": (256, WIDTHS[-1], 1, 1), "neck.2.weight": (256, 256, 3, 3)}
    found |= list_norm("neck.1", 256) | list_norm("neck.3", 256)

    # what SAM has behind its encoder
    with torch.device("meta"):
        sam = sam_model_registry["vit_b"]().state_dict()
    rest = {name: tuple(tensor.shape) for name, tensor in sam.items() if "image_enc" not in name}
    return {f"image_encoder.{name}": shape for name, shape in found.items()} | rest


def draw_weights() -> dict[str, Tensor]:
    """Draw tensors of the published names and shapes, none of them alike."""
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, Tensor] = {}
    for name, shape in list_published().items():
        if name.endswith("num_batches_tracked"):
            drawn[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            drawn[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3
            drawn[name] = scale * torch.randn(shape, generator=generator)
            drawn[name] += len(shape) == 1 and name.endswith("weight")
    return drawn


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return draw_weights()


@pytest.fixture(scope="module")
def folder(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("weights")
    torch.save(weights, place / "mobile_sam.pt")
    return place


def test_the_published_tensors_are_those_of_the_model(
    weights: dict[str, Tensor], folder: Path
) -> None:
    assert len(weights) == 439
    held = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    assert held == 40_561_032  # of the published class; its file has zip's entries beside them
    assert held < BYTES < held + 439 * 500

    # all are asked for, and none is left as it was
    sam = load_mobile_sam(folder)
    assert sam.image_encoder.img_size == 1024
    assert torch.equal(sam.mask_decoder.iou_token.weight, weights["mask_decoder.iou_token.weight"])
    assert not any("bn" in name for name, _ in sam.image_encoder.named_buffers())


def convolve(weights: dict[str, Tensor], name: str, maps: Tensor, stride: int = 1) -> Tensor:
    """A convolution, grouped where its kernels see one map, and its batch norm."""
    kernel = weights[f"{name}.c.weight"]
    groups = len(kernel) if kernel.shape[1] == 1 else 1
    maps = F.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
    values = (
        weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(maps, *values)


def normalise(weights: dict[str, Tensor], name: str, maps: Tensor, epsilon: float) -> Tensor:
    """A layer norm over the last axis."""
    values = (weights[f"{name}.weight"], weights[f"{name}.bias"])
    return F.layer_norm(maps, maps.shape[-1:], *values, epsilon)


def attend(weights: dict[str, Tensor], name: str, window: Tensor, heads: int) -> Tensor:
    """Attention within one window (side, side, D), one head at a time."""
    side, _, width = window.shape
    tokens = normalise(weights, f"{name}.norm", window.flatten(0, 1), 1e-5)
    qkv = F.linear(tokens, weights[f"{name}.qkv.weight"], weights[f"{name}.qkv.bias"])
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offsets = (places[:, None] - places[None]).abs()
    bias = weights[f"{name}.attention_biases"][:, side * offsets[..., 0] + offsets[..., 1]]
    parts = []
    for head, own in enumerate(qkv.chunk(heads, -1)):
        query, key, value = own.chunk(3, -1)
        scores = query @ key.T * (width // heads) ** -0.5 + bias[head]
        parts.append(scores.softmax(-1) @ value)
    joined = F.linear(
        torch.cat(parts, -1), weights[f"{name}.proj.weight"], weights[f"{name}.proj.bias"]
    )
    return joined.view(side, side, width)


def run_block(weights: dict[str, Tensor], name: str, maps: Tensor, heads: int, side: int) -> Tensor:
    """Windowed attention, a convolution of neighbours, a perceptron."""
    # windows, the last ones filled up with zeros
    rows, columns = maps.shape[-2:]
    padded = F.pad(maps, (0, -columns % side, 0, -rows % side))[0].permute(1, 2, 0)
    attended = torch.zeros_like(padded)
    for top in range(0, padded.shape[0], side):
        for left in range(0, padded.shape[1], side):
            place = (slice(top, top + side), slice(left, left + side))
            attended[place] = attend(weights, f"{name}.attn", padded[place], heads)
    maps = maps + attended[:rows, :columns].permute(2, 0, 1)

    # neighbours, then each pixel
    maps = convolve(weights, f"{name}.local_conv", maps).permute(0, 2, 3, 1)
    hidden = normalise(weights, f"{name}.mlp.norm", maps, 1e-5)
    for layer, activation in (("fc1", F.gelu), ("fc2", torch.Tensor.clone)):
        hidden = activation(
            F.linear(
                hidden, *(weights[f"{name}.mlp.{layer}.{part}"] for part in ("weight", "bias"))
            )
        )
    return (maps + hidden).permute(0, 3, 1, 2)


def encode_plainly(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """Run the published encoder on published names."""
    weights = {name.removeprefix("image_encoder."): value for name, value in weights.items()}
    maps = F.gelu(convolve(weights, "patch_embed.seq.0", image, stride=2))
    maps = convolve(weights, "patch_embed.seq.2", maps, stride=2)
    for layer in range(4):
        for block in range(DEPTHS[layer]):
            name = f"layers.{layer}.blocks.{block}"
            if layer:
                maps = run_block(weights, name, maps, HEADS[layer], WINDOWS[layer])
                continue
            inner = F.gelu(convolve(weights, f"{name}.conv1", maps))
            inner = F.gelu(convolve(weights, f"{name}.conv2", inner))
            maps = F.gelu(maps + convolve(weights, f"{name}.conv3", inner))
        if layer < 3:  # the last reduction has a stride of one
            name = f"layers.{layer}.downsample"
            maps = F.gelu(convolve(weights, f"{name}.conv1", maps))
            maps = F.gelu(convolve(weights, f"{name}.conv2", maps, stride=1 if layer == 2 else 2))
            maps = convolve(weights, f"{name}.conv3", maps)
    maps = F.conv2d(maps, weights["neck.0.weight"])
    maps = normalise(weights, "neck.1", maps.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)
    maps = F.conv2d(maps, weights["neck.2.weight"], padding=1)
    return normalise(weights, "neck.3", maps.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def test_the_encoder_computes_what_is_published(weights: dict[str, Tensor], folder: Path) -> None:
    image = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = load_mobile_sam(folder).image_encoder(image)
        expected = encode_plainly(weights, image)
    assert found.shape == (1, 256, 10, 10)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_and_compilation_reach_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = MobileEncoder().eval().requires_grad_(False)
    fuse_norms(encoder.trunk)
    images = torch.randn(2, 3, 128, 128)
    exact = FusedEncoder(encoder, torch.float32, 1, None)(images)
    assert torch.equal(exact, encoder(images))
    compiled = partial(torch.compile, backend="eager")
    half = FusedEncoder(encoder, torch.bfloat16, 1, compiled)(images)
    assert half.dtype == torch.float32
    assert 0 < float((half - exact).abs().mean()) < 0.05


def test_masks_at_real_size_through_the_door(folder, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(
        tmp_path / "photos/a.jpg"
    )
    words = ["task=superpixels", "dataset=folder", f"dataset.root={tmp_path}/photos", "sam=mobile"]
    words += ["masks=fast", "masks.points_per_side=2", "masks.pred_iou_thresh=0"]
    words += ["masks.stability_score_thresh=0", "masks.box_nms_thresh=1", "speed=half"]
    words += [f"paths.weights={folder}", f"paths.outputs={tmp_path}/o", "loading.workers=0"]
    run(infer.main, monkeypatch, *words, "logger=none", "report=none")
    found = read_superpixels(tmp_path / "o/folder/superpixels/a.npz")
    assert found.size == (480, 640)
    assert len(found) > 0


def test_what_is_no_whole_checkpoint_is_refused(weights, folder, tmp_path):
    place = tmp_path / "mobile_sam.pt"

    def refuse(match: str) -> None:
        with pytest.raises(ValueError, match=rf"mobile_sam\.pt is no checkpoint.*{match}") as error:
            load_mobile_sam(tmp_path)
        assert len(str(error.value)) < 500
        assert "\n" not in str(error.value)

    whole = (folder / "mobile_sam.pt").read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    refuse("cut off")
    torch.save({**weights, "image_encoder.neck.0.weight": torch.zeros(256, 768, 1, 1)}, place)
    refuse(r"neck\.0\.weight: copying a param with shape .*256, 768, 1, 1")
    torch.save({name: weights[name] for name in weights if "layers.2" not in name}, place)
    refuse("Missing key")
    name = "image_encoder.patch_embed.seq.0.bn.running_mean"
    torch.save({**weights, name: weights[name] * torch.nan}, place)
    refuse("no numbers")
    torch.save([1], place)
    refuse("no tensors with names")


def test_without_network_the_error_names_address_and_place(tmp_path, monkeypatch):
    def fail(url: str, timeout: float) -> None:
        raise URLError("no network")

    monkeypatch.setattr(downloads, "urlopen", fail)
    words = ["task=superpixels", "sam=mobile", "dataset=folder", f"dataset.root={tmp_path}"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    message = r"(?s)weights/mobile_sam\.pt.*https://github\.com/ChaoningZhang/MobileSAM/raw/"
    with pytest.raises(InstantiationException, match=message):
        run(infer.main, monkeypatch, *words, f"paths.weights={tmp_path}/weights",
            f"paths.outputs={tmp_path}/o", "logger=none")  # fmt: skip

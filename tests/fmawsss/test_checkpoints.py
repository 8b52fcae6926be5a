"""A network's checkpoint is plain data: old and new ones, hostile ones, a user's own network."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from front_door import ROOT
from network_tools import DECODER, SWIN
from torch import Tensor, nn

from fmawsss.files.png import read_mask
from fmawsss.networks.builders import NETWORKS, TORCHVISION, prepare_part
from fmawsss.networks.checkpoints import (
    build_network,
    build_resize,
    describe_classes,
    describe_network,
    drop_weights,
    read_checkpoint,
)
from fmawsss.networks.library import build_torchvision
from fmawsss.networks.segmenter import Segmenter
from fmawsss.resizing import AlignToPatch, KeepSize
from fmawsss.tiny.shapes import CLASS_NAMES

OLD = ROOT / "tests/golden/old_network"  # trained by the version that knew no `version`
CLASSES = ["circle", "${oc.env:HOME}", "???"]
TIMM = {
    "_target_": "fmawsss.networks.library.build_on_timm_encoder",
    "_partial_": True,
    "decoder": {"_target_": "segmentation_models_pytorch.FPN", "_partial_": True},
    "encoder": "convnext_atto",
    "settings": {"dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
}
TOWER = {
    "_target_": "fmawsss.networks.towers.TowerNetwork",
    "_partial_": True,
    "clip": {"_target_": "fmawsss.tiny.models.tiny_clip"},
    "width": 16,
}
OWN = {"_target_": "mynets.MyNet", "_partial_": True, "depth": 3, "weights": "mine.pt"}
ALIGN = {"_target_": "fmawsss.resizing.AlignToPatch", "patch": 32}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class MyNet(nn.Module):
    """What a user may bring."""

    def __init__(self, classes: int, depth: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)))
        self.classify = nn.Conv2d(3, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.layers(images))


def describe(
    network: dict[str, Any] = TIMM, resize: dict[str, Any] = ALIGN, built: nn.Module | None = None
) -> dict[str, Any]:
    """What training writes."""
    state = {} if built is None else built.state_dict()
    return {
        **describe_classes(CLASSES),
        "carried": describe_network(network, resize, MEAN, STD),
        "state_dict": {f"network.{name}": value for name, value in state.items()},
        "config": {},
    }


def save(content: dict[str, Any], folder: Path) -> Path:
    torch.save(content, folder / "network.ckpt")
    return folder / "network.ckpt"


def change(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Set one place of a checkpoint, by its dotted name."""
    content = copy.deepcopy(content)
    *parents, last = key.split(".")
    node = content
    for parent in parents:
        node = node[parent]
    node[last] = value
    return content


def test_a_checkpoint_of_the_time_before_versions_gives_the_masks_of_that_time() -> None:
    checkpoint = read_checkpoint(OLD / "network.ckpt")
    assert checkpoint.classes == tuple(name.capitalize() for name in CLASS_NAMES)
    assert checkpoint.image_mean == tuple(MEAN)
    found = Segmenter.from_checkpoint(OLD / "network.ckpt").predict([OLD / "image.png"])[0]
    assert len(found.areas) == 6
    # of 12 544 pixels, another processor may decide a few ties otherwise
    assert (found.mask != read_mask(OLD / "mask.png")).sum() <= 3


EARLIER = {
    "fmawsss.networks.TowerNetwork": TOWER,
    "fmawsss.library_networks.build_on_timm_encoder": TIMM,
    "fmawsss.library_networks.build_on_smp_encoder": {
        "decoder": {"_target_": "segmentation_models_pytorch.Unet", "_partial_": True},
        "encoder": "resnet18",
    },
    "fmawsss.mask2former.Mask2FormerNetwork": {"swin": SWIN, "decoder": DECODER},
}


@pytest.mark.parametrize("target", EARLIER)
def test_old_names_mean_the_same_builders(target: str, tmp_path: Path) -> None:
    node = {**EARLIER[target], "_target_": target, "_partial_": True}
    if "clip" in node:  # as that version wrote it
        node["clip"] = {"_target_": "fmawsss.tiny.models.tiny_clip", "weights": None}
    data = {"resize": ALIGN, "image_mean": MEAN, "image_std": STD}
    carried = {"module": {"network": node, "weights": None}, "data": data}
    content = {**describe(), "carried": {**carried, "dataset": {"names": None}}}
    content["state_dict"] = {}
    del content["version"]
    path = save(content, tmp_path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.classes == tuple(CLASSES)  # prompt names, where there are no others
    assert build_resize(checkpoint) == AlignToPatch(32)

    torch.manual_seed(0)
    built = prepare_part(checkpoint.network, NETWORKS.get, "network")(classes=4)
    content["state_dict"] = {f"network.{k}": v for k, v in built.state_dict().items()}
    images = torch.randn(1, 3, 64, 64)
    again = build_network(read_checkpoint(save(content, tmp_path)))
    with torch.no_grad():
        assert torch.equal(again.eval()(images), built.eval()(images))


def test_an_open_clip_is_built_without_its_weights() -> None:
    clip = {
        "_target_": "fmawsss.clip.load_open_clip",
        "name": "ViT-S-32-alt",
        "pretrained": "openai",
        "folder": "no",
    }
    node = drop_weights({**TOWER, "clip": clip})
    network = prepare_part(node, NETWORKS.get, "network")(classes=3).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 40, 70)).shape == (1, 3, 40, 70)


def test_text_of_a_checkpoint_stays_text(tmp_path: Path) -> None:
    built = prepare_part(drop_weights(TIMM), NETWORKS.get, "network")(classes=4)
    path = save(describe(built=built), tmp_path)
    segmenter = Segmenter.from_checkpoint(path)
    assert segmenter.classes == ("background", *CLASSES)
    assert read_checkpoint(path).classes == tuple(CLASSES)
    assert segmenter.palette[1].tolist() == [128, 0, 0]
    assert segmenter.resize == AlignToPatch(32)
    assert json.loads(json.dumps(read_checkpoint(path).network)) == TIMM


STRANGERS = [
    "os.system",
    "builtins.eval",
    "torch.load",
    "fmawsss.files.png.write_png",
    "fmawsss.files.downloads.fetch_file",
    "fmawsss.files.products.shutil.rmtree",
    "fmawsss.networks.library.load_smp_encoder",
    "fmawsss.networks.builders.build_tiny_clip",
    "segmentation_models_pytorch.encoders.get_encoder",
    "torchvision.models.segmentation.deeplabv3.DeepLabV3",
    "no.such.Module",
]
PLACES = ["network", "network.decoder", "resize"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", STRANGERS)
def test_only_listed_builders_are_called(target: str, place: str, tmp_path: Path) -> None:
    evil = {"_target_": target, "_args_": [f"touch {tmp_path}/made"]}
    content = change(describe(), f"carried.{place}", evil)
    match = rf"network\.ckpt: the checkpoint names '{target}' as {place}.*name it again"
    path = save(content, tmp_path)
    with pytest.raises(ValueError, match=match) as caught:
        Segmenter.from_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


CALL = {"_target_": "os.mkdir", "_args_": ["made"]}
WRONG = {
    "version": (3, "version 3, expected 2"),
    "classes": ([CALL] * 3, "classes are no list of names"),
    "palette": ([[0, 0, 0]], "not 4 colours"),
    "state_dict": ({"network.a": "b"}, "does not hold tensors alone"),
    "carried": ([CALL], "carried is no dictionary"),
    "carried.writers": ({"more": CALL}, "wants to change writers in carried"),
    "carried.resize": ([CALL], "names no builder as resize"),
    "carried.image_mean": (torch.zeros(3), "no plain data"),
    "carried.image_std": ([1.0, "2", 3.0], "image_std is not three numbers"),
    "carried.network": ({"_target_": "eval"}, "names no builder as network"),
    "carried.network._target_": (["os.system"], "names no builder as network"),
    "carried.network._args_": (["x"], "with unknown _args_"),
    "carried.network._convert_": ("all", "with unknown _convert_"),
    "carried.network.pretrained": ("x.pt", "with unknown pretrained"),
    "carried.network.classes": (3, "with unknown classes"),
    "carried.network.encoder": ("hf-hub:some/one", r"network\.encoder='hf-hub:some/one'"),
    "carried.network.settings": ({"checkpoint_path": "/x"}, r"network\.settings="),
    "carried.network.settings.norm": (CALL, r"network\.settings="),
    "carried.network.decoder": (
        "segmentation_models_pytorch.FPN",
        r"names no builder as network\.",
    ),
    "carried.network.decoder.activation": (CALL, r"network\.decoder\.activation="),
    "carried.network.decoder.encoder_depth": ("5", r"network\.decoder\.encoder_depth='5'"),
    "carried.network.decoder.more": (1, "with unknown more"),
    "carried.resize.patch": (True, r"resize\.patch=True"),
    "carried.resize.longest": (5, "with unknown longest"),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_is_not_as_it_should_be_is_refused_by_name(key: str, tmp_path: Path) -> None:
    value, message = WRONG[key]
    path = save(change(describe(), key, value), tmp_path)
    with pytest.raises(ValueError, match=rf"network\.ckpt: the checkpoint.*{message}") as caught:
        Segmenter.from_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_what_lacks_is_named(tmp_path: Path) -> None:
    content = describe()
    del content["carried"]["network"]["encoder"]
    with pytest.raises(ValueError, match="with no encoder"):
        Segmenter.from_checkpoint(save(content, tmp_path))
    del content["carried"]["resize"]
    with pytest.raises(ValueError, match="carried lacks resize"):
        read_checkpoint(save(content, tmp_path))
    del content["carried"]
    with pytest.raises(ValueError, match="is no checkpoint of a network"):
        read_checkpoint(save(content, tmp_path))
    with pytest.raises(FileNotFoundError, match=r"python train\.py task=network"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("section", ["dataset", "module", "data"])
def test_an_old_checkpoint_is_as_closed(section: str, tmp_path: Path) -> None:
    content = torch.load(OLD / "network.ckpt", weights_only=True)
    path = save(change(content, f"carried.{section}.more", CALL), tmp_path)
    with pytest.raises(ValueError, match=r"the checkpoint wants to change more in carried"):
        read_checkpoint(path)


def test_a_network_of_the_users_own_is_named_again(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    built = MyNet(classes=4)
    path = save(describe(OWN, built=built), tmp_path)
    with pytest.raises(ValueError, match="none of our builders") as caught:
        Segmenter.from_checkpoint(path)
    words = shlex.split(str(caught.value))
    assert f"ckpt={path}" in words
    assert "network.build._target_=mynets.MyNet" in words
    assert "build=…)" in words
    assert "weights" not in read_checkpoint(path).network  # nothing names a file

    segmenter = Segmenter.from_checkpoint(path, build=MyNet)
    seen = torch.from_numpy(segmenter.normalise(segmenter.resize(image))).permute(2, 0, 1)[None]
    with torch.no_grad():
        assert torch.equal(segmenter.network(seen), built.eval()(seen))
    assert segmenter.predict([image])[0].mask.shape == (33, 47)
    with pytest.raises(ValueError, match=r"another network, 2 differ: layers\.3\.bias"):
        Segmenter.from_checkpoint(path, build=lambda classes: MyNet(classes, depth=4))


def test_a_resize_rule_of_the_users_own_is_named_again(tmp_path: Path) -> None:
    path = save(describe(OWN, {"_target_": "mynets.Resize"}, MyNet(4)), tmp_path)
    with pytest.raises(ValueError, match=r"network\.resize\._target_=mynets\.Resize"):
        Segmenter.from_checkpoint(path, build=MyNet)
    assert Segmenter.from_checkpoint(path, build=MyNet, resize=KeepSize()).classes[1] == "circle"


def test_training_refuses_to_describe_what_is_no_node() -> None:
    with pytest.raises(ValueError, match="names no builder as network"):
        describe_network({"build": MyNet}, ALIGN, MEAN, STD)
    with pytest.raises(ValueError, match="no plain data"):
        describe_network({**OWN, "layer": nn.Conv2d}, ALIGN, MEAN, STD)


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "fcn_resnet50"])
def test_networks_of_torchvision_are_applied_as_they_are(name: str, tmp_path: Path) -> None:
    network = f"torchvision.models.segmentation.{name}"
    node = {
        "_target_": "fmawsss.networks.library.build_torchvision",
        "_partial_": True,
        "network": {"_target_": network, "_partial_": True},
    }
    built = build_torchvision(TORCHVISION[network], classes=4).eval()
    again = build_network(read_checkpoint(save(describe(node, built=built), tmp_path)))
    images = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        logits = again.eval()(images)
        assert logits.shape == (1, 4, 33, 47)
        assert torch.equal(logits, built(images))
    assert len(list(built.encoder.parameters())) < len(list(built.parameters()))


def test_images_are_segmented_in_turn_and_through_windows() -> None:
    segmenter = Segmenter.from_checkpoint(OLD / "network.ckpt")
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    read = []

    def show(amount: int) -> Any:
        for number in range(amount):
            read.append(number)
            yield image

    found = segmenter.iter_predict(show(5))
    first = next(found)
    assert len(read) <= 2  # one batch, and the picture that begins the next
    assert np.array_equal(first.mask, segmenter.predict([image])[0].mask)
    with pytest.raises(TypeError, match=r"write predict\(\[image\]\)"):
        segmenter.iter_predict(image)

    windows = segmenter.sliding(window=64, stride=32)
    assert windows.predict([image])[0].mask.shape == (70, 90)
    assert windows.resize.find_size((70, 90)) == (70, 90)
    assert windows.inference.window == 64

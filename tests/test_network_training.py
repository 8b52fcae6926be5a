"""Networks are trained and applied through the front door, a few steps on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_trees import draw_image
from front_door import run
from network_tools import DECODER, SWIN

import infer
import train
from fmawsss.files.png import read_mask
from fmawsss.networks.averaging import average_weights
from fmawsss.networks.checkpoints import read_checkpoint
from fmawsss.networks.inference import SlidingWindows, WholeImages
from fmawsss.networks.refinement import keep_maps
from fmawsss.networks.segmenter import Segmenter
from fmawsss.resizing import KeepSize
from lightning_modules.network import NetworkModule

QUICK = [
    "dataset.train_images=4",
    "dataset.val_images=2",
    "loop.max_steps=2",
    "save_every=1",
    "data.batch_size=2",
]
VIEWS = ["augment.long_side=[64,96]", "augment.short_side=64", "augment.crop=64"]
SMALL = {
    "mask2former_swin_l": [
        *(f"network.build.swin.{key}={value}".replace(" ", "") for key, value in SWIN.items()),
        *(f"++network.build.decoder.{key}={value}" for key, value in DECODER.items()),
        "network.loss.points=100", "network.resize.side=64",
    ],
    "deeplabv3plus_r101": ["network.build.encoder=resnet18"],
    "eomt_dinov3_b": [
        "network.build.eomt.hidden_size=32", "network.build.eomt.num_hidden_layers=3",
        "network.build.eomt.num_attention_heads=2", "network.build.eomt.intermediate_size=64",
        "network.build.eomt.num_blocks=1", "network.build.eomt.num_queries=6",
        "network.loss.points=100",
    ],
    "segformer_b5": [
        "network.build.encoder=mit_b0",
        "network.build.decoder.decoder_segmentation_channels=16",
    ],
    "timm": ["network.build.encoder=mobilenetv3_small_050"],
}  # fmt: skip


FIXED = {"mask2former_swin_l"}  # its windows are cut for one size of images
# Of a checkpoint, beside the weights
PARTS = {"version", "classes", "palette", "carried", "config"}


def places(folder: Path, name: str = "outputs") -> list[str]:
    seeds = f"seeds={folder}/data/shapes-0/SegmentationClass"  # true masks: seeds of another origin
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/{name}", seeds]


def learn(monkeypatch, folder: Path, name: str, *overrides: str) -> dict[str, torch.Tensor]:
    run(train.main, monkeypatch, "task=network", *QUICK, *VIEWS, *places(folder, name), *overrides)
    return torch.load(folder / name / "shapes/network.ckpt", weights_only=True)["state_dict"]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("network", sorted(SMALL))
def test_a_network_is_trained_and_applied(network, tmp_path, monkeypatch):
    learn(
        monkeypatch,
        tmp_path,
        "outputs",
        f"network={network}",
        "network.weights=null",
        *SMALL[network],
    )
    work = tmp_path / "outputs/shapes"
    scores = json.loads((work / "scores.json").read_text())["network"]["val"]["network"]
    assert 0 <= scores["miou"] <= 1
    assert len(scores["confusion"]) == len(scores["boundary_iou"]) == 9
    assert len(scores["worst_images"]) == 2

    # the checkpoint says which network it is; no settings are repeated and no weights asked for
    photos = f"dataset.root={tmp_path}/data/shapes-0/JPEGImages"
    run(
        infer.main,
        monkeypatch,
        "task=network",
        "dataset=folder",
        photos,
        f"ckpt={work}/network.ckpt",
        *places(tmp_path)[:2],
    )
    masks = [
        read_mask(path / "masks/val_00001.png") for path in (tmp_path / "outputs/folder", work)
    ]
    assert (masks[0] == masks[1]).all()

    # sides that are no multiples of anything: smaller than a window, and than the network's
    # coarsest cell
    whole = WholeImages((0.5, 1.0), True, keep_maps)
    sizes = [(33, 47), (70, 101), (9, 20)]
    pictures = [draw_image(index, size) for index, size in enumerate(sizes)]
    for how, resize in ((whole, None), (SlidingWindows(whole, 48, 32, 2), KeepSize())):
        found = Segmenter.from_checkpoint(
            work / "network.ckpt", inference=how, resize=resize
        ).predict(pictures)
        assert [segmentation.mask.shape for segmentation in found] == sizes


OWN = """
from torch import nn

class MyNet(nn.Module):
    def __init__(self, classes, depth=1):
        super().__init__()
        layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(3, classes, 1))

    def forward(self, images):
        return self.layers(images)
"""


def test_a_network_of_the_users_own_is_trained_and_applied_when_it_is_named_again(
    tmp_path, monkeypatch
):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mynets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "code")
    named = ["network=own", "network.build._target_=mynets.MyNet", "+network.build.depth=2"]
    learn(monkeypatch, tmp_path, "outputs", *named)
    path = tmp_path / "outputs/shapes/network.ckpt"
    carried = torch.load(path, weights_only=True)["carried"]["network"]
    assert carried == {"_target_": "mynets.MyNet", "_partial_": True, "depth": 2}

    # nothing in the file chooses code; one line says what to type
    photos = ["dataset=folder", f"dataset.root={tmp_path}/data/shapes-0/JPEGImages"]
    again = ["task=network", *photos, f"ckpt={path}", *places(tmp_path)[:2]]
    with pytest.raises(ValueError, match=r"'mynets\.MyNet' as network.*name it again") as caught:
        run(infer.main, monkeypatch, *again)
    assert "\n" not in str(caught.value)
    assert f"ckpt={path} {' '.join(named[:2])}" in str(caught.value)
    run(infer.main, monkeypatch, *again, *named)
    folders = (tmp_path / "outputs/folder", path.parent)
    masks = [read_mask(folder / "masks/val_00001.png") for folder in folders]
    assert (masks[0] == masks[1]).all()


def test_a_network_of_torchvision_is_trained_and_applied(tmp_path, monkeypatch):
    small = "torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    named = ["network=torchvision", f"network.build.network._target_={small}"]
    learn(monkeypatch, tmp_path, "outputs", *named)
    path = tmp_path / "outputs/shapes/network.ckpt"
    found = Segmenter.from_checkpoint(path).predict([draw_image(0, (33, 47))])
    assert found[0].mask.shape == (33, 47)


@pytest.mark.slow
@pytest.mark.parametrize("network", sorted(SMALL))
def test_a_network_is_exported_for_any_size(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    learn(
        monkeypatch,
        tmp_path,
        "outputs",
        f"network={network}",
        "network.weights=null",
        *SMALL[network],
    )
    there = [
        f"paths.outputs={tmp_path}/outputs",
        f"job.path={tmp_path}/network.onnx",
        "job.size=[64,96]",
    ]
    fixed = ["job.dynamic=false"] if network in FIXED else []
    run(
        infer.main, monkeypatch, "task=export", "format=onnx", *there, *fixed
    )  # compares answers at several sizes
    assert (tmp_path / "network.onnx").is_file()


def test_missing_weights_stop_the_run_before_it_starts(tmp_path, monkeypatch):
    with pytest.raises(Exception, match=r"resnet18\.imagenet.*smp-hub"):
        learn(
            monkeypatch,
            tmp_path,
            "outputs",
            "network=deeplabv3plus_r101",
            *SMALL["deeplabv3plus_r101"],
            f"paths.weights={tmp_path}",
        )


def test_last_and_best_are_both_reported(tmp_path, monkeypatch):
    learn(monkeypatch, tmp_path, "outputs", "val_every=1", "loop.max_steps=3")
    work = tmp_path / "outputs/shapes"
    lines = [
        json.loads(line)
        for line in (work / "network.ckpt.validations.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [1, 2, 3]
    best = max(lines, key=lambda line: line["scores"]["miou"])
    splits = json.loads((work / "scores.json").read_text())["network"]
    during = splits["val during training"]
    assert set(during) == {"last, step 3", f"best, step {best['step']}"}
    assert during["last, step 3"]["miou"] == pytest.approx(splits["val"]["network"]["miou"])
    assert during[f"best, step {best['step']}"]["miou"] == best["scores"]["miou"]
    assert "chosen by that very score" in (work / "report.html").read_text()

    kept = torch.load(work / "network_best.ckpt", weights_only=True)
    step = torch.load(work / f"checkpoints/network/step_{best['step']:06d}.ckpt", weights_only=True)
    assert set(kept) == {"state_dict", *PARTS}
    assert len(read_checkpoint(work / "network_best.ckpt").classes) == 8
    assert equal(kept["state_dict"], step["state_dict"])
    assert all(kept[key] == step[key] for key in PARTS)

    # applied, the best makes masks of its own with the scores that were reported
    again = [
        f"ckpt={work}/network_best.ckpt",
        f"paths.work={tmp_path}/best",
        *QUICK[:2],
        *places(tmp_path)[:2],
    ]
    run(infer.main, monkeypatch, "task=network", *again)
    applied = json.loads((tmp_path / "best/scores.json").read_text())["network"]["val"]["network"]
    assert applied == during[f"best, step {best['step']}"]
    assert len(applied["confusion"]) == len(applied["boundary_iou"]) == 9
    assert len(applied["worst_images"]) == 2


def test_weights_are_averaged(tmp_path, monkeypatch):
    plain = learn(monkeypatch, tmp_path, "plain")
    first = torch.load(
        tmp_path / "plain/shapes/checkpoints/network/step_000001.ckpt", weights_only=True
    )["state_dict"]
    averaged = learn(monkeypatch, tmp_path, "averaged", "averaging=ema")
    for name, value in averaged.items():
        torch.testing.assert_close(value, (2 * first[name] + 9 * plain[name]) / 11)
    start, end, decay = torch.zeros(2), torch.ones(2), 0.999
    assert average_weights(start, end, 10_000, decay).tolist() == pytest.approx([0.001] * 2)


def test_a_killed_training_goes_on_to_the_same_result(tmp_path, monkeypatch):
    options = [
        "network=mask2former_swin_l",
        "network.weights=null",
        *SMALL["mask2former_swin_l"],
        "averaging=ema",
        "val_every=1",
    ]
    options += ["averaging.ema.avg_fn.decay=0.5", "loop.max_steps=3"]
    whole = learn(monkeypatch, tmp_path, "whole", *options)
    with pytest.MonkeyPatch.context() as patch:
        step, calls = NetworkModule.training_step, []

        def die(self, batch, batch_index):
            calls.append(batch_index)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return step(self, batch, batch_index)

        patch.setattr(NetworkModule, "training_step", die)
        with pytest.raises(SystemExit):
            learn(patch, tmp_path, "killed", *options)
    assert equal(learn(monkeypatch, tmp_path, "killed", *options), whole)

    # killed once more, after the last step and before the product was written
    work = tmp_path / "killed/shapes"
    record = json.loads((work / "network.ckpt.json").read_text())
    record["parts"]["train"]["complete"] = False
    (work / "network.ckpt.json").write_text(json.dumps(record))
    (work / "network.ckpt").unlink()
    assert equal(learn(monkeypatch, tmp_path, "killed", *options), whole)


@pytest.fixture(scope="module")
def unsure(tmp_path_factory):
    """A folder with seeds and their confidence, both made by the program."""
    folder = tmp_path_factory.mktemp("unsure")
    there = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", *QUICK[:2]]
    with pytest.MonkeyPatch.context() as patch:
        seeding = [
            "prompts=handwritten",
            "callbacks=seed_confidence",
            "data.superpixels=null",
            "writers.seeds.kind=caa",
        ]
        run(infer.main, patch, "task=cls", *seeding, *there)
        learn(patch, folder, "hard", f"seeds={folder}/outputs/shapes/seeds/coarse")
    return folder


def test_confidence_is_written_beside_the_seeds(unsure):
    seeds = unsure / "outputs/shapes/seeds"
    assert len(list((seeds / "coarse_confidence").glob("*.png"))) == 4
    confidence = read_mask(seeds / "coarse_confidence/train_00001.png")
    assert confidence.shape == read_mask(seeds / "coarse/train_00001.png").shape
    assert 0 < confidence.max() <= 255
    assert len(set(confidence.flatten().tolist())) > 10


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        ("confident", ["targets.make.threshold=0.9"]),
        ("weighted", []),
        ("soft", ["targets.make.floor=0.5"]),
        ("tolerant", ["targets.make.radius=1"]),
        ("covered", []),
    ],
)
def test_seeds_are_learned_with_their_confidence(targets, settings, unsure, monkeypatch):
    seeds = f"seeds={unsure}/outputs/shapes/seeds/coarse"
    state = learn(monkeypatch, unsure, targets, seeds, f"targets={targets}", *settings)
    hard = torch.load(unsure / "hard/shapes/network.ckpt", weights_only=True)["state_dict"]
    # seeds from CAMs alone leave no pixel uncovered
    assert equal(state, hard) == (targets == "covered")


def test_confidence_that_was_never_written_is_asked_for(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"confidences are missing.*callbacks=seed_confidence"
    ):
        learn(monkeypatch, tmp_path, "outputs", "targets=weighted")
    with pytest.raises(ValueError, match="task=seg callbacks=seed_confidence"):
        run(
            train.main,
            monkeypatch,
            "targets@stages.network.targets=weighted",
            *places(tmp_path)[:2],
        )

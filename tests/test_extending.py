"""docs/extending.md: what it shows lies in files of a user's own, and runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from front_door import QUICK, ROOT, run
from PIL import Image

import infer
import train
from fmawsss.files.png import read_mask
from fmawsss.files.products import read_record
from fmawsss.scores import resize_then_score
from fmawsss.seeding import CamSeeder, SeedMaker

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FAST = ["logger=none", "report=none", "loading.workers=0"]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """The files of the page: one Python file, and a folder of options."""
    folder = tmp_path_factory.mktemp("own")
    blocks = BLOCK.findall(PAGE)
    (folder / "mine.py").write_text("\n\n".join(text for kind, text in blocks if kind == "python"))
    for text in (text for kind, text in blocks if kind == "yaml"):
        path = folder / re.search(r"^# (options/\S+)$", text, re.MULTILINE)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def walk(own, finished, monkeypatch):
    """Walk a command of the page, on the products of a finished pipeline."""
    monkeypatch.syspath_prepend(str(own))

    def walk_command(command: str, *more: str) -> None:
        assert f"    python {command}" in PAGE
        program, *words = shlex.split(command)
        words = [f"{own}/options" if word == "options" else word for word in words]
        places = [f"paths.data={finished}/data", f"paths.outputs={finished}/outputs", *FAST]
        main = {"train.py": train.main, "infer.py": infer.main}[program]
        run(main, monkeypatch, *words, *places, *more)

    return walk_command


def test_a_loss(walk, tmp_path):
    command = "train.py --config-dir options task=seg loss=pull_apart"
    walk(command, *QUICK[:2], "loop.max_steps=2", "save_every=1", f"paths.work={tmp_path}")
    settings = read_record(tmp_path / "seg.ckpt")["settings"]
    assert settings["learning.loss._target_"] == "mine.pull_apart"
    assert not [key for key in settings if key.startswith("learning.loss.detach_peak")]


def test_an_affinity_from_another_encoder(walk, finished, tmp_path):
    found = {}
    for width in (16, 8):
        work = tmp_path / str(width)
        walk(
            "infer.py --config-dir options task=cls affinity=colours paths.work=outputs/colours "
            "ckpt=outputs/shapes/cls.ckpt",
            *QUICK[:2],
            f"paths.work={work}",
            f"ckpt={finished}/outputs/shapes/cls.ckpt",
            f"affinity.width={width}",
        )
        found[width] = read_record(work / "seeds" / "coarse")
        assert len(list((work / "seeds" / "coarse").glob("*.png"))) == 6
    assert found[16]["settings"]["weights"] != found[8]["settings"]["weights"]


def test_its_encoder_follows_the_device_and_stays_frozen(own, monkeypatch):
    monkeypatch.syspath_prepend(str(own))
    from mine import AffinityOfColours

    seeders = [CamSeeder(resize_then_score, None, crf=None)] * 3
    maker = SeedMaker(AffinityOfColours(4), *seeders)
    assert not any(parameter.requires_grad for parameter in maker.parameters())
    assert {parameter.dtype for parameter in maker.double().parameters()} == {torch.float64}
    assert {parameter.device.type for parameter in maker.to("meta").parameters()} == {"meta"}


def test_a_score(walk, finished, tmp_path):
    walk(
        "infer.py --config-dir options task=cls seeding=squared paths.work=outputs/squared "
        "ckpt=outputs/shapes/cls.ckpt",
        *QUICK[:2],
        f"paths.work={tmp_path}",
        f"ckpt={finished}/outputs/shapes/cls.ckpt",
    )
    plain = finished / "outputs" / "shapes" / "seeds" / "coarse"
    seeds = sorted((tmp_path / "seeds" / "coarse").glob("*.png"))
    assert len(seeds) == 6
    assert any((read_mask(path) != read_mask(plain / path.name)).any() for path in seeds)


def test_a_data_set(walk, finished, tmp_path):
    photos = tmp_path / "tagged" / "photos"
    photos.mkdir(parents=True)
    images = sorted((finished / "data" / "shapes-0" / "JPEGImages").glob("train_*.jpg"))[:4]
    for number, path in enumerate(images):
        Image.open(path).save(photos / f"{('circle', 'square')[number % 2]}-{number}.jpg")
    quick = [word for word in QUICK if not word.startswith("dataset.")]
    command = "train.py --config-dir options dataset=tagged"
    walk(command, *quick, f"dataset.root={tmp_path}/tagged", f"paths.outputs={tmp_path}/outputs")
    masks = tmp_path / "outputs" / "tagged" / "masks"
    assert sorted(path.stem for path in masks.glob("*.png")) == sorted(
        path.stem for path in photos.glob("*.jpg")
    )


def test_a_network_is_trained_and_applied_when_it_is_named_again(walk, finished, tmp_path):
    own = "network=own network.build._target_=mine.Pixelwise"
    quick = [*QUICK[:2], "loop.max_steps=2", "save_every=1", "logger=none"]
    walk(f"train.py task=network {own}", *quick, f"paths.work={tmp_path}/shapes")
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(finished / "data/shapes-0/JPEGImages/val_00000.jpg").save(photos / "a.png")
    rest = [f"dataset.root={photos}", f"paths.work={tmp_path}/folder"]
    rest += [f"ckpt={tmp_path}/shapes/network.ckpt", "clip=tiny", "sam=tiny"]
    walk(f"infer.py task=network dataset=folder dataset.root=photos {own}", *rest)
    assert read_mask(tmp_path / "folder" / "masks" / "a.png").shape == (112, 112)
    build = "'job.build={_target_:mine.Pixelwise,_partial_:true}'"
    walk(f"infer.py task=export {build}", f"paths.work={tmp_path}/shapes")
    assert (tmp_path / "shapes" / "network.onnx").is_file()


def test_a_network_that_is_not_named_again_is_refused_in_one_line(
    walk, finished, tmp_path, monkeypatch
):
    own = "network=own network.build._target_=mine.Pixelwise"
    quick = [*QUICK[:2], "loop.max_steps=1", "save_every=1"]
    walk(f"train.py task=network {own}", *quick, f"paths.work={tmp_path}/shapes")
    with pytest.raises(ValueError, match=r"network\.build\._target_=mine\.Pixelwise") as caught:
        run(
            infer.main, monkeypatch, "task=network", "dataset=folder", "clip=tiny", "sam=tiny",
            f"dataset.root={finished}/data/shapes-0/JPEGImages", f"paths.work={tmp_path}/folder",
            f"ckpt={tmp_path}/shapes/network.ckpt", *FAST,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_a_stage(walk, finished, tmp_path):
    command = "infer.py --config-dir options task=brightness"
    walk(command, *QUICK[:2], f"paths.work={tmp_path}")
    assert len(list((tmp_path / "brightness").glob("*.txt"))) == 6
    (journal,) = tmp_path.glob("brightness.scores.*.jsonl")
    batches = [json.loads(line) for line in journal.read_text().splitlines()]
    assert all(line["brightness"] > 0 for batch in batches for line in batch)
    walk(command, *QUICK[:2], f"paths.work={tmp_path}")  # complete, skipped

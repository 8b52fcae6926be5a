"""What a run computes on: trainer=auto, and precisions that a CPU has not."""

from __future__ import annotations

import json

import pytest
import torch
from front_door import QUICK, compose_config, run

import train
from stages.devices import choose_products


def test_only_a_training_on_a_gpu_is_in_tf32(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    caplog.set_level("INFO", "stages.devices")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as torch begins
    found, convolutions = [], []
    for device, learns in (("cpu", True), ("cuda", True), ("cuda", False)):
        choose_products("seg", torch.device(device), "16-mixed", learns)
        found.append(torch.get_float32_matmul_precision())
        convolutions.append(torch.backends.cudnn.allow_tf32)
    assert found == ["highest", "high", "highest"]
    assert convolutions == [True, True, False]
    assert caplog.messages == [
        "seg: on a card, learning in 16-mixed, what stays float32 in TF32",
        "seg: on a card, applied in 16-mixed",
    ]


@pytest.mark.parametrize(("found", "accelerator", "images"), [(False, "cpu", 1), (True, "gpu", 4)])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, found, accelerator, images):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    cfg = compose_config("train", "task=pipeline")
    assert cfg.trainer.accelerator == accelerator
    assert cfg.trainer.deterministic == ("warn" if found else True)
    assert cfg.stages.superpixels.runtime.batch_size == images
    gpu = compose_config("train", f"trainer={accelerator}")
    assert cfg.stages.superpixels.runtime == gpu.stages.superpixels.runtime


@pytest.mark.parametrize(("found", "images"), [(False, 1), (True, 8)])
def test_images_of_one_size_share_a_batch_on_a_gpu(monkeypatch, found, images):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    for dataset in ("voc", "coco"):
        for task in ("cls", "seg", "network"):
            cfg = compose_config("train", f"task={task}", f"dataset={dataset}")
            assert cfg.stage.runtime.batch_size == images


def test_the_device_is_told_and_float16_becomes_float32_on_a_cpu(tmp_path, monkeypatch, capsys):
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", "logger=none"]
    words = ["task=network", f"seeds={tmp_path}/data/shapes-0/SegmentationClass", *QUICK[:2]]
    quick = ["loop.max_steps=1", "loop.precision=16-mixed", "report=none", "loading.workers=0"]
    run(train.main, monkeypatch, *words, *quick, *places)
    said = capsys.readouterr().out
    assert "trainer=auto: the CPU, for no GPU is found here" in said
    assert "network: in 32-true on a CPU, 16-mixed is for a GPU" in said
    record = json.loads((tmp_path / "outputs/shapes/network.ckpt.json").read_text())
    assert (
        record["settings"]["training.loop.precision"] == "16-mixed"
    )  # the recipe's, on any device

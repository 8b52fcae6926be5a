"""What is imported, and what need not be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from front_door import ROOT

from fmawsss.files.json_files import write_json

TRAINERS = ("lightning", "hydra", "omegaconf", "wandb", "albumentations")


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_network_is_applied_without_what_trained_it() -> None:
    shown = run_python(f"""
import sys
for name in {(*TRAINERS, "open_clip")}:
    sys.modules[name] = None
import torch, numpy as np
import fmawsss.networks.onnx
from fmawsss.networks.checkpoints import describe_classes, describe_network
from fmawsss.networks.library import build_torchvision
from fmawsss.networks.segmenter import Segmenter
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
network = build_torchvision(network=lraspp_mobilenet_v3_large, classes=3)
node = {{"_target_": "fmawsss.networks.library.build_torchvision", "_partial_": True,
    "network": {{"_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large",
    "_partial_": True}}}}
align = {{"_target_": "fmawsss.resizing.AlignToPatch", "patch": 32}}
carried = describe_network(node, align, [0.5] * 3, [0.5] * 3)
state = {{"network." + key: value for key, value in network.state_dict().items()}}
import tempfile, pathlib
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "network.ckpt"
    torch.save({{"state_dict": state, **describe_classes(["a", "b"]), "carried": carried}}, path)
    found = Segmenter.from_checkpoint(path).predict([np.zeros((40, 50, 3), np.uint8)])
print(found[0].mask.shape)
""")
    assert "(40, 50)" in shown


def test_a_network_of_clip_is_applied_without_trainers() -> None:
    shown = run_python(f"""
import sys
for name in {TRAINERS}:
    sys.modules[name] = None
import numpy as np
from fmawsss.networks.segmenter import Segmenter
segmenter = Segmenter.from_checkpoint("tests/golden/old_network/network.ckpt")
print(segmenter.predict([np.zeros((40, 50, 3), np.uint8)])[0].mask.shape)
""")
    assert "(40, 50)" in shown


@pytest.mark.parametrize("door", ["train", "infer"])
def test_help_loads_no_trainer(door: str) -> None:
    shown = run_python(f"""
import sys
sys.argv = ["{door}.py", "--help"]
import {door}
try:
    {door}.main()
except SystemExit:
    pass
heavy = ("torch", "lightning", "transformers", "matplotlib", "wandb")
print("loaded", [name for name in heavy if name in sys.modules])
""")
    assert "loaded []" in shown
    assert "dataset=voc" in shown


HEAVY = ("lightning", "torchmetrics", "torchvision", "transformers", "open_clip", "wandb")


def test_a_report_is_written_without_what_learns(tmp_path: Path) -> None:
    work = tmp_path / "folder"
    write_json(work / "stages.json", {})
    write_json(work / "scores.json", {"cls": {"all": {}}})
    run_python(f"""
import sys
for name in {(*HEAVY, "matplotlib")}:
    sys.modules[name] = None
sys.argv = ["infer.py", "task=report", "dataset=folder", "dataset.root={tmp_path}"]
sys.argv += ["paths.outputs={tmp_path}"]
import infer
infer.main()
""")
    assert (work / "report.html").is_file()


def test_libraries_say_nothing_of_their_own(tmp_path: Path) -> None:
    words = ["task=cls", "prompts=handwritten", "data.superpixels=null", "logger=none"]
    words += ["writers.seeds.kind=cam", "scored=cam", "report=none", "data.workers=0"]
    words += ["dataset.train_images=2", "dataset.val_images=1"]
    words += [f"paths.data={tmp_path}", f"paths.outputs={tmp_path}"]
    command = [sys.executable, str(ROOT / "infer.py"), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "GPU available" not in done.stdout + done.stderr

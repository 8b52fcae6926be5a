"""The wheel, installed into an environment of its own, makes everything from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from front_door import ROOT

pytestmark = pytest.mark.slow

FEW = ["dataset.train_images=4", "dataset.val_images=2", "logger=none", "report=none"]
HANDWRITTEN = ["task=cls", "prompts=handwritten", "data.superpixels=null", "writers.seeds.kind=cam"]
HANDWRITTEN += ["scored=cam"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
WRITTEN = ("build", "outputs", "data", "weights", "*.egg-info", ".*", "__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy: `build/` may hold files of before."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*WRITTEN))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", folder, folder / "checkout"], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel) -> Path:
    """Install the wheel beside the libraries of this environment, without its `fmawsss`."""
    folder = wheel.parent / "venv"
    venv.create(folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    libraries = Path(sysconfig.get_path("purelib", "venv", paths))
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    scripts = Path(sysconfig.get_path("scripts", "venv", paths))
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return scripts / "fmawsss"


def call(program: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program in a folder."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1"}
    command = [str(program), *words]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=1000
    )


def check(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stderr


def test_the_wheel_has_one_name_at_its_top(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"fmawsss"}


def test_the_installed_package_is_the_one_that_runs(program, tmp_path):
    code = "import fmawsss, importlib.util as u; print(fmawsss.__file__, u.find_spec('stages'))"
    command = [program.with_name("python"), "-c", code]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    assert said.startswith(str(program.parents[1]))
    assert said.endswith(" None\n")


def test_a_pipeline_from_another_folder(program, tmp_path):
    words = ["debug=fast", "paths.data=my data", "loading.workers=1", *FEW[:2]]
    check(call(program, tmp_path, "train", *words))
    made = tmp_path / "outputs/shapes/debug/fast"
    assert (tmp_path / "my data/shapes-0/JPEGImages").is_dir()
    assert (made / "report.html").is_file()
    (record,) = made.glob("runs/*/run.json")
    assert json.loads(record.read_text())["command"].startswith("fmawsss train debug=fast ")

    # the masks of other photos
    photos = ["dataset=folder", "dataset.root=my data/shapes-0/JPEGImages", "report=none"]
    checkpoint = f"ckpt={made.relative_to(tmp_path)}/network.ckpt"
    check(call(program, tmp_path, "infer", "task=network", *photos, checkpoint))
    assert len([*(tmp_path / "outputs/folder/masks").rglob("*.png")]) == 6


def test_mistakes_name_the_installed_program(program, tmp_path):
    ended = call(program, tmp_path, "infer", "task=network", *FEW)
    assert ended.returncode == 1
    assert "`fmawsss train task=network " in ended.stderr.splitlines()[-1]
    assert "fmawsss infer task=superpixels" in call(program, tmp_path, "infer", "--help").stdout


def test_two_processes(program, tmp_path):
    ended = call(program, tmp_path, "infer", *HANDWRITTEN, *FEW, *TWO)
    check(ended)
    assert len([*(tmp_path / "outputs/shapes/seeds/coarse").glob("*.png")]) == 4


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_of_sweeps(program, tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    words = ["-m", *HANDWRITTEN, *FEW, f"hydra/launcher={launcher}", "affinity.power=1,2"]
    check(call(program, tmp_path, "infer", *words, "hydra.sweep.dir=sweep", "loading.workers=1"))
    assert len([*tmp_path.glob("sweep/[01]/seeds/coarse/*.png")]) == 8

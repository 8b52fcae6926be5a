"""Products of commit fb74c13, whose records have version 1: read, or refused by name, and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from front_door import QUICK, ROOT, run

import infer
import train
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch

OLD = ROOT / "tests/golden/old_products"
ASIDE = ["logger=none", "report=none", "callbacks=none", "loading.workers=0"]


def list_files(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "runs" not in path.parts and path.name != ".checked_files.json"
    }


@pytest.mark.parametrize(
    ("door", "task", "name"),
    [
        (infer.main, "superpixels", "superpixels"),
        (infer.main, "cls", "seeds/coarse"),
        (train.main, "cls", r"cls\.ckpt"),
    ],
)
def test_old_records_are_refused_by_name(finished, tmp_path, monkeypatch, door, task, name) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD, "outputs")
    before = list_files(Path("outputs"))
    refused = rf"{name} was made by an older version of .*overwrite=true .*or choose another paths"
    with pytest.raises(ProductMismatch, match=refused):
        run(door, monkeypatch, f"task={task}", *QUICK[:2], *ASIDE, f"paths.data={finished}/data")
    assert list_files(Path("outputs")) == before


def test_old_checkpoints_and_superpixels_are_read(finished, tmp_path, monkeypatch) -> None:
    words = [f"ckpt={OLD}/shapes/cls.ckpt", f"data.superpixels={OLD}/shapes/superpixels"]
    words += [*QUICK[:2], *ASIDE, f"paths.data={finished}/data", f"paths.work={tmp_path}/new"]
    run(infer.main, monkeypatch, "task=cls", *words)
    for old in sorted((OLD / "shapes/seeds/coarse").glob("*.png")):
        made = read_mask(tmp_path / "new/seeds/coarse" / old.name)
        assert (made == read_mask(old)).mean() > 0.999

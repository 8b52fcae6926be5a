"""docs/superpixels.md tells the truth: NumPy and COCO's tools alone read and write files."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from front_door import ROOT
from pycocotools import mask as coco
from superpixel_tools import make_superpixels

from fmawsss.files.storage import read_superpixels, write_superpixels


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword"
)  # of pycocotools
def test_numpy_and_cocos_tools_read_what_we_write(tmp_path):
    masks = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    write_superpixels(tmp_path / "a.npz", make_superpixels(masks, torch.tensor([2, 1, 0])), "f")
    record = np.load(tmp_path / "a.npz", allow_pickle=False)
    for index in range(3):
        start, stop = record["offsets"][index : index + 2]
        rle = {"size": record["size"].tolist(), "counts": record["counts"][start:stop].tolist()}
        assert (coco.decode(coco.frPyObjects(rle, *rle["size"])) == masks[index].numpy()).all()


def test_the_arrays_are_those_of_the_documentation(tmp_path):
    format_, _, _ = (ROOT / "docs/superpixels.md").read_text().partition("\n## ")
    rows = re.findall(r"^\| `(\w+)` \|", format_, re.M)
    path = tmp_path / "a.npz"
    write_superpixels(path, make_superpixels(torch.ones(2, 4, 5).bool(), torch.tensor([2, 0])), "f")
    record = dict(np.load(path, allow_pickle=False))
    assert set(rows) == set(record)
    np.savez_compressed(path, **record)  # what anyone else would write
    assert len(read_superpixels(path, "f")) == 2

"""Keys of a region memory are chosen on the command line, and other keys are made anew."""

from __future__ import annotations

import torch
from front_door import QUICK, run

import infer
from fmawsss.dino.tiny import tiny_encoder
from fmawsss.files.images import read_image
from fmawsss.files.regions import read_regions
from fmawsss.files.storage import read_superpixels
from fmawsss.memory import join_keys, pool_keys


def apply_cls(finished, work, monkeypatch, *words):
    places = [
        f"paths.data={finished}/data",
        f"paths.work={work}",
        f"data.superpixels={finished}/outputs/shapes/superpixels",
    ]
    hand = ["prompts=handwritten", "callbacks=regions", "logger=none", "report=none"]
    run(infer.main, monkeypatch, "task=cls", *QUICK[:2], *places, *hand, *words)
    return {path.stem: read_regions(path) for path in (work / "regions/coarse").glob("*.npz")}


def test_keys_are_what_was_asked_for(finished, tmp_path, monkeypatch):
    usual = apply_cls(finished, tmp_path, monkeypatch)
    seeds = {path: path.read_bytes() for path in (tmp_path / "seeds/coarse").glob("*.png")}
    assert len(usual) == 6

    # other keys are written over them; the seeds, which do not depend on keys, stay
    dino = apply_cls(finished, tmp_path, monkeypatch, "region_keys=dino")
    both = apply_cls(finished, tmp_path, monkeypatch, "region_keys=joined_dino")
    assert all(path.read_bytes() == before for path, before in seeds.items())
    name = sorted(usual)[0]
    assert dino[name].keys.shape[1] == 64
    torch.testing.assert_close(
        both[name].keys, join_keys(usual[name].keys, dino[name].keys), rtol=0, atol=1e-3
    )
    assert torch.equal(both[name].scores, usual[name].scores)

    # as the encoder itself describes the image
    picture = read_image(finished / f"data/shapes-0/JPEGImages/{name}.jpg")
    superpixels = read_superpixels(finished / f"outputs/shapes/superpixels/{name}.npz")
    seen = tiny_encoder().encode([torch.from_numpy(picture)], (14, 14), 0)
    expected = pool_keys(seen.features[0], (14, 14), superpixels)
    torch.testing.assert_close(dino[name].keys, expected, rtol=0, atol=2e-3)

    # the memory takes them
    places = [f"paths.data={finished}/data", f"paths.work={tmp_path}", "memory.temperature=10"]
    places += [f"data.superpixels={finished}/outputs/shapes/superpixels", *QUICK[:2]]
    regions = f"regions={tmp_path}/regions/coarse"
    run(infer.main, monkeypatch, "task=memory", *places, regions, "logger=none")
    assert len(list((tmp_path / "seeds/coarse_memory").glob("*.png"))) == 6

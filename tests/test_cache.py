"""The feature cache: same trainings, the encoder paid once, nothing stale, nothing huge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from front_door import run

import train
from fmawsss.files.features import FeatureStore, open_store

QUICK = [
    "dataset.train_images=6",
    "dataset.val_images=1",
    "loop.max_steps=3",
    "save_every=3",
    "data.batch_size=4",
]
QUICK += ["module.scheduler.warmup=0"]
# random views, so that fixing them matters; seeds come from the CAMs alone, so no superpixels are
# needed
VIEWS = ["augment=shapes_network", "data.superpixels=null", "writers.seeds.kind=caa"]
CACHED = ["cache=features", "cache.views=2", "cache.dtype=float32"]


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """Classification prompts learned without and with a cache; the coarse seeds of the first."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        learn(patch, folder, "cls", "plain", "data.views=2")
        learn(patch, folder, "cls", "cached", *CACHED)
    return folder


def learn(
    patch: pytest.MonkeyPatch, folder: Path, task: str, name: str, *overrides: str
) -> torch.Tensor:
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}", f"paths.work={folder}/{name}"]
    seeds = [f"data.seeds={folder}/plain/seeds/coarse"] if task == "seg" else []
    run(train.main, patch, f"task={task}", *QUICK, *VIEWS, *places, *seeds, *overrides)
    return read_contexts(folder / name / f"{task}.ckpt")


def read_contexts(path: Path) -> torch.Tensor:
    return torch.load(path, weights_only=True)["state_dict"]["prompts.context"]


def test_cached_classification_equals_fixed_views(coarse):
    plain, cached = (read_contexts(coarse / name / "cls.ckpt") for name in ("plain", "cached"))
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-6)
    assert not torch.equal(read_contexts(coarse / "plain/cls.ckpt")[0, 0], torch.zeros(128))


def test_cached_segmentation_equals_fixed_views(coarse, monkeypatch):
    plain = learn(monkeypatch, coarse, "seg", "plain", "data.views=2")
    cached = learn(monkeypatch, coarse, "seg", "cached", *CACHED)
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-5)


def test_other_prompts_do_not_encode_again(coarse, monkeypatch):
    monkeypatch.setattr(FeatureStore, "write", None)
    first = read_contexts(coarse / "cached/cls.ckpt")
    other = learn(monkeypatch, coarse, "cls", "other", *CACHED, "optimizer.lr=0.01")
    assert not torch.equal(first, other)


def test_fewer_views_or_another_seed_are_encoded_anew(coarse, monkeypatch):
    monkeypatch.setattr(FeatureStore, "write", refuse)
    for number, change in enumerate(
        ("cache.views=1", "seed=1", "cache.dtype=float16", "augment.crop=96")
    ):
        with pytest.raises(RuntimeError, match="encoded"):
            learn(monkeypatch, coarse, "cls", f"change_{number}", *CACHED, change)


def refuse(*_: object) -> None:
    raise RuntimeError("encoded")


def test_an_interrupted_encoding_goes_on_to_the_same_result(coarse, monkeypatch, tmp_path):
    whole = learn(monkeypatch, coarse, "cls", "half", *CACHED, "cache.views=3")
    (stored,) = (
        path
        for path in (coarse / "shapes/features").glob("cls_*/features.bin")
        if path.stat().st_size == 18 * 512
    )
    done = bytearray((stored.parent / "done.bin").read_bytes())
    features = bytearray(stored.read_bytes())
    done[5:11] = bytes(6)
    features[5 * 512 : 11 * 512] = bytes(6 * 512)
    (stored.parent / "done.bin").write_bytes(done)
    stored.write_bytes(features)
    again = learn(monkeypatch, coarse, "cls", "half_again", *CACHED, "cache.views=3")
    assert torch.equal(again, whole)


def test_a_cache_that_is_too_large_is_refused(coarse, monkeypatch):
    with pytest.raises(ValueError, match=r"cache\.max_gb[\s\S]*cache\.views"):
        learn(
            monkeypatch, coarse, "cls", "large", *CACHED, "cache.views=5", "cache.max_gb=0.000001"
        )


def test_a_store_of_other_shapes_is_refused(tmp_path):
    sample = {"features": torch.zeros(1, 4)}
    store = open_store(tmp_path, "a", 3, sample, "float16", 1.0)
    with pytest.raises(ValueError, match="one size"):
        store.write([0], {"features": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match="delete the folder"):
        open_store(tmp_path, "a", 4, sample, "float16", 1.0)

"""A trained network through every door: folders, patterns, lists, videos, Python."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_trees import draw_image
from network_tools import apply_network, draw_photos, learn_few
from PIL import Image

from datamodules.choosing import warn
from datamodules.images import list_stems
from fmawsss.files.png import read_mask, write_png
from fmawsss.files.products import ProductMismatch
from fmawsss.networks.checkpoints import read_checkpoint
from fmawsss.networks.inference import WholeImages
from fmawsss.networks.refinement import keep_maps
from fmawsss.networks.segmenter import Segmenter
from fmawsss.tiny.shapes import CLASS_NAMES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The outputs of a network that learned from true masks for a few steps."""
    return learn_few(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Path:
    return trained / "shapes" / "network.ckpt"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")


def test_the_python_api_equals_the_command(
    trained, checkpoint, photos, tmp_path, monkeypatch
) -> None:
    out = apply_network(monkeypatch, trained, tmp_path / "out", photos, "callbacks=confidence")
    paths = [photos / "a.png", photos / "b.png"]
    found = Segmenter.from_checkpoint(checkpoint).predict(paths)
    for path, segmentation in zip(paths, found, strict=True):
        assert (segmentation.mask == read_mask(out / "masks" / path.name)).all()
        with Image.open(out / "confidence" / path.name) as confidence:
            assert confidence.mode == "I;16"
            assert np.abs(np.array(confidence) / 65535 - segmentation.confidence).max() < 1e-4
        areas = json.loads((out / "exports/network/areas.json").read_text())["images"][path.stem]
        assert areas["pixels"] == segmentation.areas
        assert sum(areas["pixels"].values()) == areas["height"] * areas["width"]
        rows = (out / "exports/network/areas.csv").read_text().splitlines()
        own = [row.split(",") for row in rows if row.startswith(f"{path.stem},")]
        assert {row[1]: int(row[2]) for row in own} == areas["pixels"]
    assert segmentation.classes == ("background", *CLASS_NAMES)
    assert segmentation.overlay(np.zeros((64, 32, 3), np.uint8)).shape == (64, 32, 3)


def test_scores_follow_the_masks_that_they_are_counted_against(
    trained, photos, tmp_path, monkeypatch
) -> None:
    out = apply_network(monkeypatch, trained, tmp_path / "out", photos)
    assert not (out / "scores.json").exists()
    page = (out / "report.html").read_text()
    assert [page.count(f"<strong>{name}</strong>") for name in ("a", "b", "sub/c")] == [2, 2, 2]
    assert page.index('id="areas"') < page.index('id="next"') < page.index('id="run"')
    assert "of 3 images" in page
    masks = [read_mask(out / "masks" / f"{name}.png").ravel() for name in "ab"]
    for value in (0, 3):
        truths = tmp_path / f"truths_{value}"
        for name, size in (("a", (70, 101)), ("b", (64, 32))):
            write_png(truths / f"{name}.png", np.full(size, value, np.uint8))
        apply_network(monkeypatch, trained, out, photos, f"dataset.masks={truths}")
        assert 'id="next"' not in (out / "report.html").read_text()
        found = json.loads((out / "scores.json").read_text())["network"]["all"]["network"][
            "accuracy"
        ]
        assert found == pytest.approx((np.concatenate(masks) == value).mean(), abs=1e-6)


def test_a_folder_of_photos_grows(trained, photos, tmp_path, monkeypatch, capsys) -> None:
    warn.cache_clear()  # what another test was told
    out = apply_network(monkeypatch, trained, tmp_path / "out", photos)
    assert capsys.readouterr().out.count("3 of 3 images have no ground truth: a, b, sub/c") == 1
    kept = (out / "masks/a.png").stat().st_mtime_ns
    Image.fromarray(draw_image(3, (40, 50))).save(photos / "added.png")
    (photos / "sub/c.png").unlink()
    os.utime(photos / "a.png")  # copied or unpacked again: the same image
    apply_network(monkeypatch, trained, out, photos)
    assert (out / "masks/added.png").is_file()
    assert (out / "masks/a.png").stat().st_mtime_ns == kept

    # another image of the same name and size in bytes
    content = bytearray((photos / "a.png").read_bytes())
    content[-1] ^= 1
    (photos / "a.png").write_bytes(content)
    with pytest.raises(
        ProductMismatch, match=r"other files of 1 of 3 images: a\. .*overwrite=true"
    ):
        apply_network(monkeypatch, trained, out, photos)
    assert (out / "masks/a.png").stat().st_mtime_ns == kept


def test_masks_of_two_precisions_do_not_mix(trained, photos, tmp_path, monkeypatch) -> None:
    out = apply_network(monkeypatch, trained, tmp_path / "out", photos)
    with pytest.raises(ProductMismatch, match=r"precision: '32-true' -> 'bf16-mixed'"):
        apply_network(monkeypatch, trained, out, photos, "trainer.precision=bf16-mixed")


def test_images_come_in_every_form(checkpoint, photos) -> None:
    segmenter = Segmenter.from_checkpoint(
        checkpoint, inference=WholeImages((0.5, 1.0), True, keep_maps)
    )
    with Image.open(photos / "a.png") as picture:
        found = segmenter.predict([str(photos / "a.png"), picture, np.array(picture)], batch_size=2)
    assert [f.mask.shape for f in found] == [(70, 101)] * 3
    assert np.allclose(found[0].confidence, found[1].confidence, atol=1e-5)
    assert np.allclose(found[0].confidence, found[2].confidence, atol=1e-5)
    with pytest.raises(TypeError, match=r"predict\(\[image\]\)"):
        segmenter.predict(str(photos / "a.png"))
    with pytest.raises(ValueError, match="float64 of shape"):
        segmenter.predict([np.zeros((3, 4, 4))])


def test_a_checkpoint_says_what_its_masks_mean(checkpoint) -> None:
    content = read_checkpoint(checkpoint)
    assert content.classes == tuple(CLASS_NAMES)
    assert content.palette[1].tolist() == [128, 0, 0]
    config = torch.load(checkpoint, weights_only=True)["config"]  # for people
    assert config["training"]["loop"]["max_steps"] == 4
    places = re.findall(r"'(/[^']*)'", str(config))
    assert not places, "others read a checkpoint: places of this machine are not their business"
    assert config["runtime"]["output"] == "masks"


def test_patterns_lists_and_single_images(trained, photos, tmp_path, monkeypatch) -> None:
    (tmp_path / "list.txt").write_text("photos/b.png\n\nphotos/sub/c.png\n")
    for number, (root, names) in enumerate(
        {
            photos / "a.png": {"a"},
            photos / "*.png": {"a", "b"},
            photos / "**/*.png": {"a", "b", "sub/c"},
            tmp_path / "list.txt": {"b", "sub/c"},
        }.items()
    ):
        out = apply_network(monkeypatch, trained, tmp_path / f"out{number}", root, "callbacks=none")
        assert list_stems(out / "masks", ".png") == names
        assert list_stems(out / "overlays", ".png") == names


@pytest.mark.parametrize(
    ("name", "problem"), [("notes.md", "neither an image"), ("no.png", "does not exist")]
)
def test_other_sources_are_explained(trained, tmp_path, monkeypatch, name, problem) -> None:
    (tmp_path / "notes.md").write_text("no image")
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        apply_network(monkeypatch, trained, tmp_path / "out", tmp_path / name)
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(
        ValueError, match=r"list.txt lists 1 files that are no images, first .*gone\.png"
    ):
        apply_network(monkeypatch, trained, tmp_path / "out", tmp_path / "list.txt")


def test_a_video_becomes_a_video(trained, tmp_path, monkeypatch) -> None:
    film = cv2.VideoWriter(
        str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48)
    )
    for index in range(6):
        film.write(draw_image(index, (48, 64)))
    film.release()
    settings = ["dataset.frame_step=2", "save_as=[video]", "data.predict_batch_size=2"]
    out = apply_network(monkeypatch, trained, tmp_path / "out", tmp_path / "film.mp4", *settings)
    assert list_stems(out / "masks", ".png") == {"000000", "000002", "000004"}
    made = cv2.VideoCapture(str(out / "exports/network/video.mp4"))
    assert made.get(cv2.CAP_PROP_FPS) == 5
    assert (made.get(cv2.CAP_PROP_FRAME_COUNT), made.read()[1].shape) == (3, (48, 64, 3))


def test_inference_is_chosen_and_goes_on_where_it_stopped(
    trained, photos, tmp_path, monkeypatch
) -> None:
    refined = ["refine=pixel_adaptive", "refine.steps=2", "refine.distances=[1,2]"]
    ways = {
        "whole": ["inference=multiscale", *refined],
        "windows": ["inference=sliding", "inference.make.window=48"],
    }
    ways["windows"].append("inference.make.stride=32")
    masks = {}
    for name, way in ways.items():
        out = apply_network(monkeypatch, trained, tmp_path / name, photos, *way)
        masks[name] = {path.name: path.read_bytes() for path in (out / "masks").rglob("*.png")}
        (out / "masks/a.png").unlink()
        kept = (out / "masks/b.png").stat().st_mtime_ns
        apply_network(monkeypatch, trained, tmp_path / name, photos, *way)
        assert (out / "masks/b.png").stat().st_mtime_ns == kept
        assert (out / "masks/a.png").read_bytes() == masks[name]["a.png"]
    assert masks["whole"] != masks["windows"]


def test_masks_of_another_folder_go_to_a_folder_of_their_own(
    trained, photos, tmp_path, monkeypatch, capsys
) -> None:
    out = apply_network(monkeypatch, trained, tmp_path / "out", photos)
    first = {path.name: path.read_bytes() for path in (out / "masks").rglob("*.png")}
    areas = (out / "exports/network/areas.json").read_bytes()

    # another folder, twice, with an image of the same name
    others = tmp_path / "else" / "new photos"
    others.mkdir(parents=True)
    Image.fromarray(draw_image(7, (40, 56))).save(others / "a.png")
    for _ in range(2):
        apply_network(monkeypatch, trained, out, others, "callbacks=confidence", "save_as=[voc]")
    assert f"{out}/masks/new photos saved as voc below exports/network" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (out / "masks").glob("*.png")} == {
        name: first[name] for name in ("a.png", "b.png")
    }
    assert read_mask(out / "masks/new photos/a.png").shape == (40, 56)
    for kind in ("overlays", "confidence"):
        assert (out / kind / "new photos/a.png").is_file()
    assert (out / "exports/network/areas.json").read_bytes() == areas
    exported = out / "exports/network/new photos"
    assert list(json.loads((exported / "areas.json").read_text())["images"]) == ["a"]
    assert (exported / "voc").is_dir()
    notes = json.loads((out / "stages.json").read_text())
    assert list(notes) == ["network", "network/new photos"]

    # what the results are of stays in its place, also when it is made anew
    apply_network(monkeypatch, trained, out, photos / "sub/../a.png")
    apply_network(monkeypatch, trained, out, photos, "overwrite=true", "refine=pixel_adaptive")
    assert read_mask(out / "masks/new photos/a.png").shape == (40, 56)
    assert read_mask(out / "masks/sub/c.png").shape == (33, 47)

    # a copy of photos and results beside them knows its own photos
    for name in ("photos", "out"):
        shutil.copytree(tmp_path / name, tmp_path / "copy" / name)
    words = (tmp_path / "copy/out", tmp_path / "copy/photos", "refine=pixel_adaptive")
    apply_network(monkeypatch, trained, *words)
    assert not (tmp_path / "copy/out/masks/photos").exists()

    # a third folder of that name, a part of the first one, and images where others lie
    third = tmp_path / "third" / "new photos"
    third.mkdir(parents=True)
    Image.fromarray(draw_image(8, (40, 56))).save(third / "z.png")
    with pytest.raises(ValueError, match=r"masks/new photos holds masks of .*else/new photos"):
        apply_network(monkeypatch, trained, out, third)
    apply_network(monkeypatch, trained, out, photos / "sub")
    assert read_mask(out / "masks/photos_sub/c.png").shape == (33, 47)
    (photos / "new photos").mkdir()
    Image.fromarray(draw_image(9, (40, 56))).save(photos / "new photos" / "a.png")
    with pytest.raises(ProductMismatch, match=r"images below new photos/"):
        apply_network(monkeypatch, trained, out, photos, "refine=pixel_adaptive")

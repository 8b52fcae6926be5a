from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
import torch
from superpixel_tools import make_superpixels

from fmawsss import records
from fmawsss.files.png import write_palette_png, write_png
from fmawsss.superpixels import Superpixels, describe_superpixels
from fmawsss.viz import make_palette
from stages import dashboards, pages
from stages.reports import curves, images
from stages.reports.curves import draw_plot, read_trainings
from stages.reports.lines import ReportLines
from stages.reports.overviews import gather_overview
from stages.reports.report import RunFolder, StageNote, note_stage
from stages.reports.scores import list_confusions


@pytest.mark.parametrize("module", [dashboards, records, pages, curves, images])
def test_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_superpixels_are_counted_by_level_and_cover():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, :2] = True  # 10 of 20 pixels
    masks[1, 1:3] = True  # 10, of which 5 are new
    facts = describe_superpixels(make_superpixels(masks, levels=torch.tensor([2, 0])))
    assert facts == {"levels": [1, 0, 1], "covered": 0.75, "median_area": 0.5}


def test_an_image_without_superpixels_is_described():
    assert describe_superpixels(Superpixels.empty((4, 5))) == {
        "levels": [0, 0, 0],
        "covered": 0.0,
        "median_area": None,
    }


def write_run(folder, started, rows):
    (folder / "cls").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"started": started, "job": False, "stages": []}))
    lines = [f"{step},{loss}" for step, loss in rows]
    (folder / "cls/metrics.csv").write_text("\n".join(["step,train/loss", *lines]) + "\n")


def test_a_resumed_training_is_one_curve(tmp_path):
    write_run(tmp_path / "runs/a", "2026-01-01T00:00", [(9, 4.0), (19, 3.0), (29, 9.0)])
    write_run(tmp_path / "runs/b", "2026-01-01T01:00", [(29, 2.0), (39, 1.0)])
    rows = read_trainings(RunFolder(tmp_path))["cls"]
    assert [(row["step"], row["train/loss"]) for row in rows] == [
        ("9", "4.0"),
        ("19", "3.0"),
        ("29", "2.0"),
        ("39", "1.0"),
    ]


def test_a_plot_fills_its_picture():
    plot = draw_plot("loss", {"loss": [(0, 4.0), (10, 2.0), (20, 0.0)]})
    assert plot.paths == [("loss", "M0.0,0.0L150.0,60.0L300.0,120.0")]
    assert (plot.low, plot.high, plot.first, plot.last) == ("0", "4", "0", "20")
    assert draw_plot("loss", {}) is None


def test_confusions_are_sorted_by_pixels():
    stage = StageNote("cls", None, "train", 2, ("background", "dog", "cat"))
    lines = [
        {"confusion": {"cam": [[0, 0, 1]], "sams": [[0, 0, 10], [1, 2, 3], [1, 1, 5]]}},
        {"confusion": {"sams": [[1, 2, 2], [2, 0, 1], [2, 2, 9]]}},
    ]
    named = [{"name": str(number), **line} for number, line in enumerate(lines)]
    found = list_confusions(stage, ReportLines(lambda: named, 3).confusion)
    assert [(pair.truth, pair.taken_for, pair.pixels) for pair in found] == [
        ("dog", "cat", 5),
        ("cat", "background", 1),
    ]
    assert found[0].share == pytest.approx(0.5)


def test_a_scene_shows_what_there_is(tmp_path):
    write_png(tmp_path / "photo.png", np.full((20, 40, 3), 9, np.uint8))
    mask = np.zeros((20, 40), np.uint8)
    mask[:, 20:] = 2
    write_palette_png(tmp_path / "seeds/coarse/a.png", mask, make_palette(256))
    note_stage(
        tmp_path,
        StageNote("cls", tmp_path / "seeds/coarse", "train", 1, ("background", "dog", "cat")),
    )
    overview = gather_overview(
        RunFolder(tmp_path), {"name": "a", "image": str(tmp_path / "photo.png"), "truth": None}
    )
    assert list(overview.draw()) == ["image", "coarse seed"]
    assert overview.masks["coarse seed"].shape == overview.image.shape[:2] == (96, 192)
    assert np.unique(overview.masks["coarse seed"]).tolist() == [0, 2]
    assert (
        gather_overview(RunFolder(tmp_path), {"name": "a", "image": str(tmp_path / "gone.png")})
        is None
    )


def test_a_scene_traces_what_lies_in_other_folders(tmp_path):
    write_png(tmp_path / "photo.png", np.full((20, 40, 3), 9, np.uint8))
    base, job, classes = tmp_path / "base", tmp_path / "sweeps/0", ("background", "dog")
    coarse, fine, masks = base / "seeds/coarse", base / "seeds/fine", job / "masks"
    for product in (coarse, fine, masks):
        write_palette_png(product / "a.png", np.zeros((20, 40), np.uint8), make_palette(256))
    note_stage(base, StageNote("cls", coarse, "train", 1, classes))
    note_stage(base, StageNote("seg", fine, "train", 1, classes, {"seeds": coarse}))
    note_stage(job, StageNote("network", masks, "train", 1, classes, {"seeds": fine}))
    overview = gather_overview(
        RunFolder(job), {"name": "a", "image": str(tmp_path / "photo.png"), "truth": None}
    )
    assert list(overview.masks) == ["coarse seed", "fine seed", "prediction"]
    base.rename(tmp_path / "moved")  # with what lies in it
    assert [stage.product.parts[-3] for stage in RunFolder(tmp_path / "moved").lineage] == [
        "moved",
        "moved",
    ]

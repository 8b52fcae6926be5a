"""A prediction of a user's own stage: journals, pictures and writers ask it, and know no class."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from callbacks.cam_writer import CamWriter
from callbacks.mask_writer import MaskWriter
from callbacks.score_journal import ScoreJournal
from callbacks.visual_logger import VisualLogger
from fmawsss.files.images import read_image
from fmawsss.files.journals import read_lines
from fmawsss.files.png import read_mask
from fmawsss.files.storage import read_cams, write_cams
from fmawsss.files.tallies import score_lines
from fmawsss.records import Batch, Cams, Prediction, SeedPrediction
from fmawsss.seeding import Seed

CLASSES = ("dog", "cat")


class Halves:
    """The left half of an image is a cat; it is no subclass of ours."""

    name = "a"

    def masks(self):
        mask = torch.zeros(20, 30, dtype=torch.uint8)
        mask[:, :15] = 2
        return {"first": mask * 0, "halves": mask}

    def facts(self):
        return {"regions": {"halves": [[0, 0.5, 1.0], [2, 0.5, 1.0]]}, "brightness": 0.25}

    def draw(self, image, classes, palette):
        return [(f"left is {classes[1]}", np.zeros((20, 30, 3), np.uint8))]

    def kept_cams(self):
        return {"CAM": Cams(torch.rand(1, 4, 6), torch.tensor([1]), None)}


def make_batch():
    originals = [np.full((20, 30, 3), 90, np.uint8)]
    truths = [Halves().masks()["halves"]]
    return Batch(["a"], None, [(20, 30)], originals=originals, truths=truths)


def test_a_foreign_prediction_is_counted_drawn_and_written(tmp_path):
    assert isinstance(Halves(), Prediction)
    trainer = SimpleNamespace(global_rank=0, is_global_zero=True)
    module = SimpleNamespace(classes=CLASSES)
    journal = ScoreJournal(tmp_path / "masks", [])
    visual = VisualLogger(tmp_path / "pictures", tmp_path / "masks", images=1, names=["a", "b"])
    masks = MaskWriter(tmp_path / "masks", tmp_path / "overlays")
    cams = CamWriter(tmp_path / "cams", tmp_path / "masks", write_cams)
    for callback in (journal, visual, masks, cams):
        callback.on_predict_batch_end(trainer, module, [Halves()], make_batch(), 0)

    line = read_lines(tmp_path / "masks")["a"]
    assert line["brightness"] == 0.25
    assert score_lines([line], CLASSES)["halves"].miou == 1
    assert np.unique(read_mask(tmp_path / "masks/a.png")).tolist() == [0, 2]
    assert masks.has("a")
    assert read_cams(tmp_path / "cams/masks/a.npz").classes.tolist() == [1]
    assert cams.has("a")
    assert read_image(tmp_path / "pictures/masks.png").shape[1] > 3 * 160
    assert [path.stem for path in (tmp_path / "pictures/masks/rows").glob("*.png")] == ["a"]
    assert (tmp_path / "pictures/masks/CAM/a.npz").is_file()


def test_cams_that_are_cut_emptied_removed_or_of_other_settings_are_not_done(tmp_path):
    writer = CamWriter(tmp_path / "cams", tmp_path / "masks", write_cams)
    trainer, module = SimpleNamespace(global_rank=0), SimpleNamespace(classes=CLASSES)
    writer.on_predict_batch_end(trainer, module, [Halves()], make_batch(), 0)
    path = tmp_path / "cams/masks/a.npz"
    whole = path.read_bytes()
    for broken in (whole[:-9], b"", whole[: len(whole) // 2], b"no archive"):
        path.write_bytes(broken)
        assert not writer.has("a")
    path.write_bytes(whole)
    assert writer.has("a")
    writer.fingerprint = "of other settings"
    assert not writer.has("a")
    path.unlink()
    assert not writer.has("a")


def test_a_subclass_inherits_empty_answers():
    class Silent(Prediction):
        name = "a"

    prediction = Silent()
    answers = [prediction.masks(), prediction.facts(), prediction.kept_cams()]
    assert answers == [{}, {}, {}]
    assert prediction.draw(np.zeros((2, 2, 3), np.uint8), CLASSES, np.zeros((3, 3), np.uint8)) == []


def make_seeds(classes):
    labels = torch.zeros(4, 6, dtype=torch.uint8)
    labels[:2] = 2
    cams = torch.rand(len(classes), 2, 3)
    kinds = ("cam", "caa", "sams")
    seeds = {kind: Seed(labels, torch.ones(4, 6), fell_back=False) for kind in kinds}
    probabilities = torch.tensor([0.1, 0.6, 0.05, 0.2, 0.05])
    return SeedPrediction("a", torch.tensor(classes), cams, None, cams, seeds, probabilities)


def test_seeds_tell_regions_agreement_and_probable_classes():
    facts = make_seeds([2, 1]).facts()
    assert list(facts["regions"]) == ["cam", "caa", "sams"]
    assert facts["regions"]["sams"] == [[0, 0.5, 1.0], [2, 0.5, 1.0]]
    assert facts["agreement"] == 2 / 3  # of background and two labels, one has no pixel
    assert facts["probable"] == [[2, 0.05], [1, 0.6], [3, 0.2], [0, 0.1]]


def test_seeds_are_drawn_with_the_cam_of_their_first_class():
    image, palette = np.zeros((4, 6, 3), np.uint8), np.zeros((256, 3), np.uint8)
    for first, caption in ((1, "CAM cat"), (-1, "CAM background")):
        drawn = [name for name, _ in make_seeds([first, 0]).draw(image, CLASSES, palette)]
        assert drawn == [caption, "+ affinity", "cam", "caa", "sams"]

"""Seeds from CAMs alone equal the golden vectors and the formula, pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from golden_tools import assert_close, load_case
from seeding_tools import cam_seeder, random_scene, read_background, sams
from superpixel_tools import make_superpixels

from fmawsss.scores import (
    BackgroundAlpha,
    BackgroundPower,
    resize_maps,
    resize_then_score,
    score_cams,
    score_then_resize,
)
from fmawsss.seeding import (
    choose_labels,
)


@pytest.mark.parametrize("case", ["seed_allneg", "seed_down", "seed_p1", "seed_same"])
def test_golden_cam_seeds(case):
    arrays, _ = load_case(f"case6_score/{case}")
    cams, classes = torch.from_numpy(arrays["cam"]), torch.from_numpy(arrays["fg_cls"]).long()
    names = [name for name in arrays if name.startswith("seed_torch_")]
    assert len(names) == 18
    for name in names:
        order, method = name.split("_")[2:]
        score = resize_then_score if order == "rf1" else score_then_resize
        background = read_background(method)
        seed = cam_seeder(score=score, background=background)(
            cams, classes, None, tuple(arrays["dsize"].tolist())
        )
        assert_close(seed.labels, arrays[name], name)


def test_golden_labels_of_channels():
    arrays, _ = load_case("case6_score/idx2seed")
    scores = torch.nn.functional.one_hot(torch.from_numpy(arrays["idx"])).permute(2, 0, 1).float()
    labels, confidence = choose_labels(scores, torch.from_numpy(arrays["fg_cls"]).long())
    assert_close(labels, arrays["torch"], "idx2seed")
    assert confidence.eq(1).all()


def test_cam_seed_equals_the_formula_pixel_by_pixel():
    cams, classes = random_scene(0)[0], torch.tensor([1, 4, 7])
    seed = cam_seeder(background=BackgroundPower(2.0))(cams, classes, None, (13, 17))
    scores = score_cams(resize_maps(cams, (13, 17)))
    for y in range(13):
        for x in range(17):
            best, label = (1 - max(scores[:, y, x].tolist())) ** 2, 0
            for index, score in zip(classes.tolist(), scores[:, y, x].tolist(), strict=True):
                if score > best:
                    best, label = score, index + 1
            assert seed.labels[y, x] == label
            assert seed.confidence[y, x] == pytest.approx(best, abs=1e-6)
    assert not seed.fell_back


def test_equal_scores_go_to_the_first_channel():
    labels, _ = choose_labels(
        torch.tensor([[0.5, 0.2], [0.5, 0.6], [0.5, 0.6]]), torch.tensor([2, 5])
    )
    assert labels.tolist() == [0, 3]


def test_a_background_that_the_cams_hold_is_class_minus_one():
    cams = torch.tensor([[[0.0, 4.0, 2.0]], [[4.0, 0.0, 1.2]]])
    seeder = cam_seeder(background=BackgroundAlpha(2.0))
    assert seeder(cams, torch.tensor([-1, 6]), None, (1, 3)).labels.tolist() == [[7, 0, 7]]
    assert (
        cam_seeder(background=BackgroundAlpha(0.5))(
            cams, torch.tensor([-1, 6]), None, (1, 3)
        ).labels[0, 2]
        == 0
    )
    with pytest.raises(ValueError, match=r"background \(-1\) first"):
        seeder(cams, torch.tensor([3, 6]), None, (1, 3))


def test_labels_must_leave_255_alone():
    with pytest.raises(ValueError, match=r"0…253"):
        cam_seeder()(torch.rand(1, 2, 2), torch.tensor([254]), None, (2, 2))


def test_crf_smooths_the_scores_before_the_choice():
    cams, image = random_scene(1)[0], torch.zeros(9, 9, 3, dtype=torch.uint8)

    def only_background(scores, image):
        assert scores.shape == (4, 9, 9)
        assert image.shape == (9, 9, 3)
        return torch.cat([torch.ones_like(scores[:1]), torch.zeros_like(scores[1:])])

    seeder = cam_seeder(crf=only_background)
    assert not seeder(cams, torch.tensor([0, 1, 2]), None, (9, 9), image).labels.any()
    with pytest.raises(ValueError, match="refinement needs the image"):
        seeder(cams, torch.tensor([0, 1, 2]), None, (9, 9))


@pytest.mark.parametrize("seeder", [cam_seeder(), sams()])
def test_no_class_present_means_background(seeder):
    superpixels = make_superpixels(torch.ones(1, 4, 5, dtype=torch.bool), torch.tensor([2]))
    seed = seeder(torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.int64), superpixels, (4, 5))
    assert seed.labels.shape == (4, 5)
    assert not seed.labels.any()
    assert seed.confidence.eq(1).all()

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from golden_tools import assert_close, load_case

from fmawsss.affinity import (
    AffinityRefiner,
    NoRefinement,
    apply_affinity,
    compute_affinity,
    find_boxes,
    find_largest_box,
    gather_all,
    gather_inside,
    gather_outside,
    mask_boxes_corrected,
    mask_boxes_released,
    mask_largest_box,
    normalise_sinkhorn,
)
from fmawsss.scores import keep_cams, score_cams

RULES = {"in_bbox": gather_inside, "out_bbox": gather_outside, "all": gather_all}
VALUES = {"score": score_cams, "cam": keep_cams}


def refiner(**changes):
    settings = {
        "attention_blocks": 8,
        "iterations": 1,
        "threshold": 0.4,
        "power": 2,
        "values": score_cams,
        "mask_boxes": mask_boxes_released,
        "inside_from": gather_inside,
        "outside_from": gather_inside,
    }
    return AffinityRefiner(**settings | changes)


def random_attention(patches, dtype=torch.float64):
    return (
        torch.randn(patches, patches, generator=torch.Generator().manual_seed(0), dtype=dtype)
        .mul(2)
        .softmax(-1)
    )


def random_cams(pairs, height, width, dtype=torch.float64):
    coarse = torch.randn(1, pairs, 3, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]


# sinkhorn


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_sinkhorn_equals_dividing_the_matrix(iterations):
    expected = attention = random_attention(12)
    for _ in range(iterations):
        expected = expected / expected.sum(0, keepdim=True)
        expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(normalise_sinkhorn(attention, iterations), expected)
    torch.testing.assert_close(compute_affinity(attention, iterations), (expected + expected.T) / 2)


def test_sinkhorn_of_a_batch_equals_its_matrices_one_by_one():
    batch = torch.stack([random_attention(9), random_attention(9).T.softmax(-1)])
    torch.testing.assert_close(normalise_sinkhorn(batch, 2)[1], normalise_sinkhorn(batch[1], 2))


def test_sinkhorn_leaves_patches_without_attention_at_zero():
    attention = torch.zeros(5, 5)
    attention[:3, :3] = random_attention(3).float()
    affinity = compute_affinity(attention, 2)
    torch.testing.assert_close(affinity[:3, :3], compute_affinity(attention[:3, :3], 2))
    assert not affinity[3:].any()
    assert not affinity[:, 3:].any()


def test_applied_affinity_equals_the_power_of_the_written_out_one():
    attention, values = random_attention(20), torch.randn(4, 20, dtype=torch.float64)
    for power in range(4):
        expected = values @ torch.linalg.matrix_power(compute_affinity(attention, 3), power).T
        torch.testing.assert_close(apply_affinity(values, attention, 3, power), expected)


@pytest.mark.parametrize("blocks", [8, 3])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_golden_affinity(blocks, iterations):
    arrays, _ = load_case("case5_aff/att2aff_s")
    for suffix, dtype in (("", torch.float32), ("_f64", torch.float64)):
        attention = torch.from_numpy(arrays["att"]).to(dtype)[-blocks:, 1:, 1:].mean(0)
        name = f"aff_last{blocks}_n{iterations}{suffix}"
        assert_close(
            compute_affinity(attention, iterations), arrays[name], f"case5_aff/att2aff_s:{name}"
        )
    merged = compute_affinity(torch.from_numpy(arrays["merged_last8"]), 1)
    assert_close(merged, arrays["aff_from_merged_n1"], "case5_aff/att2aff_s:aff_from_merged_n1")


# boxes


def test_golden_boxes():
    arrays, _ = load_case("case5_aff/scoremap2bbox")
    names = [name for name in arrays if name.startswith("boxes_")]
    assert len(names) > 80
    for name in names:
        _, *words, threshold, contours = name.split("_")
        score = torch.from_numpy(arrays["map_" + "_".join(words)])
        find = find_boxes if contours == "mc1" else find_largest_box
        found = find(score, float(threshold[1:])).tolist()
        assert sorted(found) == sorted(arrays[name].tolist()), name


def test_golden_box_masks():
    arrays, _ = load_case("case5_aff/aff_mask_a")
    names = [name for name in arrays if name.startswith("mask_t")]
    assert len(names) == 27
    for name in names:
        boxes = mask_boxes_released(torch.from_numpy(arrays["score"]), float(name[6:9]))
        inside, outside = find_rules(name[10:])
        rows = torch.where(boxes[:, :, None], inside(boxes)[:, None], outside(boxes)[:, None])
        assert_close(rows, arrays[name], name)


def find_rules(words):
    return next((RULES[a], RULES[b]) for a in RULES for b in RULES if f"{a}_{b}" == words)


def test_released_boxes_stop_short_of_the_last_row_and_column():
    score = torch.zeros(1, 6, 8)
    score[0, 2:, 3:] = 1
    released, corrected = (
        mask(score, 0.5).view(6, 8) for mask in (mask_boxes_released, mask_boxes_corrected)
    )
    assert find_boxes(score[0], 0.5).tolist() == [[3, 2, 7, 5]]
    assert released.nonzero().amax(0).tolist() == [4, 6]
    torch.testing.assert_close(corrected, score[0].bool())


def test_corrected_boxes_are_those_of_connected_regions():
    score = torch.zeros(1, 9, 9)
    score[0, 0, 0] = score[0, 1, 1] = 1.0  # joined by a corner
    score[0, 5:8, 4:8] = 0.9
    score[0, 6, 5] = 0.0  # a hole
    score[0, 8, 0] = 0.5  # not above half of the maximum
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[:2, :2] = expected[5:8, 4:8] = True
    torch.testing.assert_close(mask_boxes_corrected(score, 0.5).view(9, 9), expected)


def test_released_and_corrected_boxes_agree_away_from_the_border():
    score = torch.nn.functional.pad(score_cams(random_cams(3, 12, 15, torch.float32)), (2, 2, 2, 2))
    torch.testing.assert_close(mask_boxes_released(score, 0.45), mask_boxes_corrected(score, 0.45))


@pytest.mark.parametrize(
    "mask_boxes", [mask_boxes_released, mask_largest_box, mask_boxes_corrected]
)
def test_nothing_bright_means_no_box(mask_boxes):
    assert not mask_boxes(torch.zeros(2, 5, 7), 0.4).any()
    assert mask_boxes(torch.zeros(0, 5, 7), 0.4).shape == (0, 35)


def test_largest_box_is_that_of_the_largest_contour():
    score = torch.zeros(1, 12, 12)
    score[0, 1:3, 1:3] = score[0, 5:10, 4:9] = 1
    found = mask_largest_box(score, 0.5).view(12, 12)
    torch.testing.assert_close(found, (score[0] > 0) & (torch.arange(12) > 3))


def test_contours_are_traced_by_this_opencv_as_expected():
    ring = np.zeros((7, 7), dtype=np.uint8)
    ring[1:6, 1:6] = 1
    ring[3, 3] = 0
    assert len(cv2.findContours(ring, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]) == 2


# refinement


@pytest.mark.parametrize("inside_from", RULES.values(), ids=RULES)
@pytest.mark.parametrize("outside_from", RULES.values(), ids=RULES)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_refinement_equals_the_formula_with_every_matrix_written_out(
    inside_from, outside_from, power
):
    cams, attention = random_cams(3, 5, 7), random_attention(35)
    score = score_cams(cams)
    for mask_boxes in (mask_boxes_released, mask_boxes_corrected):
        for values in (score_cams, keep_cams):
            refine = refiner(
                power=power,
                values=values,
                mask_boxes=mask_boxes,
                inside_from=inside_from,
                outside_from=outside_from,
            )
            boxes = mask_boxes(score, 0.4)
            chained = torch.linalg.matrix_power(compute_affinity(attention, 1), power)
            expected = torch.zeros(3, 35, dtype=torch.float64)
            for pair in range(3):
                for i in range(35):
                    rule = inside_from if boxes[pair, i] else outside_from
                    expected[pair, i] = (
                        chained[i] * rule(boxes)[pair] * values(cams)[pair].flatten()
                    ).sum()
            torch.testing.assert_close(refine(cams, attention), expected.view_as(cams))


@pytest.mark.parametrize("case", ["case5_aff/att_cam_p1", "case5_aff/att_cam_p2sq"])
def test_golden_refinement(case):
    arrays, _ = load_case(case)
    names = [name for name in arrays if name.startswith("out_") and not name.endswith("from_fp16")]
    assert len(names) == 32
    for name in names:
        dtype = torch.float64 if name.endswith("_f64") else torch.float32
        cams, attention = (
            torch.from_numpy(arrays[key]).to(dtype) for key in ("cam", "attention_f64")
        )
        refined = read_refiner(name.removesuffix("_f64"))(cams, attention)
        assert refined.dtype == dtype
        assert_close(refined, arrays[name], f"{case}:{name}")


def read_refiner(name):
    """Read the settings in `out_{values}_att{iterations}_…` or `…_maskall_n{power}`."""
    _, values, iterations, threshold, power, *rules = name.split("_")
    inside, outside = find_rules("_".join(rules)) if rules else (gather_all, gather_all)
    return refiner(
        iterations=int(iterations[3:]),
        threshold=float(threshold[1:]) if rules else 0.4,
        power=int(power[1:]),
        values=VALUES[values],
        inside_from=inside,
        outside_from=outside,
    )


@pytest.mark.parametrize("case", ["case5_aff/att_cam_p1", "case5_aff/att_cam_p2sq"])
def test_golden_refinement_from_attention_stored_in_half_precision(case):
    arrays, _ = load_case(case)
    refine = refiner(threshold=0.5, values=keep_cams)
    refined = refine(torch.from_numpy(arrays["cam"]), torch.from_numpy(arrays["att_merged_fp16"]))
    assert_close(
        refined, arrays["out_cam_att1_t0.5_n2_from_fp16"], f"{case}:out_cam_att1_t0.5_n2_from_fp16"
    )


def test_half_precision_cams_are_refined_in_single_precision():
    refined = refiner()(random_cams(2, 4, 4).half(), random_attention(16).half())
    assert refined.dtype == torch.float32
    assert refined.isfinite().all()


def test_mixed_precision_around_it_changes_nothing():
    cams, attention = random_cams(2, 4, 4, torch.float32), random_attention(16, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        refined = refiner()(cams, attention)
    assert torch.equal(refined, refiner()(cams, attention))


def test_power_zero_returns_the_values():
    cams = random_cams(2, 4, 4)
    torch.testing.assert_close(refiner(power=0, values=keep_cams)(cams, random_attention(16)), cams)


def test_an_image_without_classes_has_nothing_to_refine():
    assert refiner()(torch.zeros(0, 3, 3), random_attention(9).float()).shape == (0, 3, 3)


def test_no_refinement_needs_no_attention():
    cams = random_cams(2, 4, 4)
    assert NoRefinement().attention_blocks == 0
    assert NoRefinement()(cams, None) is cams


def test_attention_must_be_there_and_fit():
    with pytest.raises(ValueError, match="found none"):
        refiner()(torch.zeros(1, 3, 3), None)
    with pytest.raises(ValueError, match="10 patches does not fit CAMs on a 3 x 3 grid"):
        refiner()(torch.zeros(1, 3, 3), torch.zeros(10, 10))

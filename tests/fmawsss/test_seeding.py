"""Seeds from superpixels (SAMS) equal the golden vectors and the formula, mask by mask."""

from __future__ import annotations

import pytest
import torch
from golden_tools import assert_close, load_case
from seeding_tools import cam_seeder, random_scene, read_background, sams
from superpixel_tools import make_superpixels

from fmawsss.affinity import AffinityRefiner, gather_inside, mask_boxes_released
from fmawsss.scores import (
    BackgroundThreshold,
    SoftmaxOverClasses,
    clip_cams,
    keep_cams,
    resize_maps,
    score_cams,
)
from fmawsss.seeding import (
    ScoredMasks,
    Seed,
    find_top_masks,
    higher_confidence,
    higher_level,
    larger_area,
    lower_confidence,
    lower_level,
    order_masks,
    paint_masks,
    pool_mean,
    pool_sum,
    smaller_area,
)
from fmawsss.superpixels import Superpixels

CPU = torch.device("cpu")
PREPARE = {True: clip_cams, False: keep_cams, "double_norm": score_cams}
POOL = {"mean": pool_mean, "sum": pool_sum}
PRIORITY = {
    "level_bigger": higher_level,
    "level_smaller": lower_level,
    "conf_bigger": higher_confidence,
    "conf_smaller": lower_confidence,
    "area_bigger": larger_area,
    "area_smaller": smaller_area,
}


@pytest.mark.parametrize("case", ["p1_n40", "p2_n1", "p2_n20"])
def test_golden_superpixel_seeds(case):
    arrays, meta = load_case(f"case7_samseed/{case}")
    cams, classes = torch.from_numpy(arrays["cam"]), torch.from_numpy(arrays["fg_cls"]).long()
    superpixels = make_superpixels(
        torch.from_numpy(arrays["masks"]), torch.from_numpy(arrays["levels"])
    )
    assert len(meta["runs"]) == 38
    for run in meta["runs"]:
        method = run["bg_method"]["method"]
        seeder = sams(
            prepare=PREPARE[run["norm_first"]],
            pool=POOL[run["gather_method"]],
            background=read_background(f"{method}{run['bg_method'][method]}"),
            priority=[PRIORITY[name] for name in run["priority"]],
        )
        masks, key = seeder.score_masks(cams, classes, superpixels), run["key"]
        assert_close(
            masks.scores.T, arrays[f"{key}_anns_score"], f"case7_samseed/{case}:{key}_anns_score"
        )
        assert_close(masks.confidence, arrays[f"{key}_conf"], f"case7_samseed/{case}:{key}_conf")
        assert_close(masks.label, arrays[f"{key}_anns_seed"], key)
        assert_close(order_masks(masks, seeder.priority), arrays[f"{key}_order"], key)
        assert_close(
            seeder(cams, classes, superpixels, superpixels.size).labels, arrays[f"{key}_seed"], key
        )


@pytest.mark.parametrize("case", ["p1_n40", "p2_n1", "p2_n20"])
def test_golden_pooling_and_painting(case):
    arrays, _ = load_case(f"case7_samseed/{case}")
    name, cams = f"case7_samseed/{case}", torch.from_numpy(arrays["cam"])
    superpixels = make_superpixels(
        torch.from_numpy(arrays["masks"]), torch.from_numpy(arrays["levels"])
    )
    assert_close(superpixels.area, arrays["areas"], "areas")
    assert_close(pool_mean(cams, superpixels), arrays["gather_mean"], f"{name}:gather_mean")
    assert_close(pool_sum(cams, superpixels), arrays["gather_sum"], f"{name}:gather_sum")
    assert_close(
        pool_mean(cams.double(), superpixels), arrays["gather_mean_f64"], f"{name}:gather_mean_f64"
    )
    top = find_top_masks(torch.arange(len(superpixels)), superpixels, CPU)
    assert_close(top + 1, arrays["scatter_1d"], "painted in the order of the masks")


def test_golden_chain_from_cam_to_seed():
    arrays, _ = load_case("case12_pipeline/cls_seeds")
    refine = AffinityRefiner(
        8, 1, 0.4, 2, score_cams, mask_boxes_released, gather_inside, gather_inside
    )
    refined = refine(torch.from_numpy(arrays["pos_cam"]), torch.from_numpy(arrays["att_fp16"]))
    assert_close(refined, arrays["cam_affed"], "case12_pipeline/cls:cam_affed")
    superpixels = make_superpixels(
        torch.from_numpy(arrays["masks"]), torch.from_numpy(arrays["levels"])
    )
    assert_close(
        resize_maps(refined, superpixels.size), arrays["cam_up"], "case12_pipeline/cls:cam_up"
    )
    seed = sams()(refined, torch.from_numpy(arrays["fg_cls"]), superpixels, superpixels.size)
    assert_close(seed.labels, arrays["seed"], "seed")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", POOL)
@pytest.mark.parametrize("prepare", [clip_cams, keep_cams, score_cams, SoftmaxOverClasses(3.0)])
def test_superpixel_seed_equals_the_formula_mask_by_mask(seed, pool, prepare):
    cams, masks, levels, _ = random_scene(seed)
    cams, classes = cams.double(), torch.tensor([0, 8, 19])
    maps = prepare(resize_maps(cams, masks.shape[1:]))
    pooled = torch.stack([getattr(maps[:, mask], pool)(1) for mask in masks], dim=1).clamp_min(0)
    low, high = pooled.amin(1, keepdim=True), pooled.amax(1, keepdim=True)
    pooled = (pooled - low) / (high - low + 1e-7)
    background = (1 - pooled.amax(0)) ** 0.6
    scores = torch.cat([background[None], pooled])

    order = sorted(range(len(masks)), key=lambda m: (levels[m].item(), scores[:, m].max().item()))
    labels, confidence = torch.zeros(masks.shape[1:]), torch.zeros(masks.shape[1:]).double()
    for m in order:
        labels[masks[m]] = (0, 1, 9, 20)[scores[:, m].argmax()]
        confidence[masks[m]] = scores[:, m].max()

    result = sams(prepare=prepare, pool=POOL[pool])(
        cams, classes, make_superpixels(masks, levels), masks.shape[1:]
    )
    assert result.labels.tolist() == labels.tolist()
    torch.testing.assert_close(result.confidence, confidence)
    assert not result.fell_back


def test_scores_already_normalised_are_pooled_only():
    cams, masks, levels, _ = random_scene(2)
    given = score_cams(cams)
    seeder = sams(prepare=keep_cams, normalise=keep_cams)
    scores = seeder.score_masks(
        given, torch.tensor([0, 1, 2]), make_superpixels(masks, levels)
    ).scores
    maps = resize_maps(given, masks.shape[1:])
    assert_close(
        scores[1:], torch.stack([maps[:, mask].mean(1) for mask in masks], dim=1), "pooled"
    )
    assert_close(scores[0], (1 - scores[1:].amax(0)) ** 0.6, "background")


def test_equal_masks_get_equal_sums_to_the_last_bit():
    cams, masks, levels, generator = random_scene(3, number=40)
    maps = resize_maps(cams * torch.rand(3, 1, 1, generator=generator) * 1e3, masks.shape[1:])
    doubled = make_superpixels(torch.cat([masks, masks]), torch.cat([levels, levels]))
    for pool in POOL.values():
        first, second = pool(maps, doubled).chunk(2, dim=1)
        assert torch.equal(first, second)


def test_means_stay_within_their_map():
    maps = torch.rand(2, 20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps[:, 5:9] = 1.0
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 5:9] = True
    assert pool_mean(maps, make_superpixels(mask, torch.tensor([0]))).max() <= 1


def test_ties_are_painted_in_the_order_of_the_masks():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, :, :4] = masks[1, :, 2:] = masks[2, :2] = True
    superpixels = make_superpixels(masks, torch.tensor([1, 1, 0]))
    seeder = sams(background=BackgroundThreshold(2.0), priority=[higher_level, higher_confidence])
    scored = seeder.score_masks(torch.rand(1, 4, 6), torch.tensor([0]), superpixels)
    order = order_masks(scored, seeder.priority)
    assert order.tolist() == [2, 0, 1]
    assert find_top_masks(order, superpixels, CPU)[0].tolist() == [0, 0, 1, 1, 1, 1]


def test_uncovered_pixels_are_background_or_filled():
    cams, classes = torch.ones(1, 2, 2), torch.tensor([4])
    cams[0, 0, 0] = 0
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[0, :2] = masks[1, 2:4] = True
    superpixels = make_superpixels(masks, torch.tensor([2, 2]))
    plain = sams()(cams, classes, superpixels, (6, 6))
    filled = sams(fill=cam_seeder())(cams, classes, superpixels, (6, 6))
    given = cam_seeder()(cams, classes, None, (6, 6))
    assert not plain.labels[4:].any()
    assert not plain.confidence[4:].any()
    assert given.labels[4:].eq(5).any()
    assert torch.equal(filled.labels, torch.cat([plain.labels[:4], given.labels[4:]]))
    assert torch.equal(filled.confidence, torch.cat([plain.confidence[:4], given.confidence[4:]]))


def test_an_image_without_masks_falls_back_to_a_given_seed():
    def give_seed(cams, classes, superpixels, size, image):
        return Seed(
            torch.tensor([[0, 3, 255]], dtype=torch.uint8), torch.ones(1, 3), fell_back=False
        )

    arguments = torch.rand(1, 1, 3), torch.tensor([2]), Superpixels.empty((1, 3)), (1, 3)
    seed = sams(fallback=give_seed)(*arguments)
    assert seed.labels.tolist() == [[0, 3, 0]]
    assert seed.fell_back
    assert torch.equal(sams()(*arguments).labels, cam_seeder()(*arguments).labels)


def test_painting_nothing_leaves_the_rest():
    none = torch.zeros(0, dtype=torch.int64)
    masks = ScoredMasks(torch.zeros(2, 0), none.byte(), torch.zeros(0), none, none)
    rest = Seed(torch.tensor([[0, 3, 255]], dtype=torch.uint8), torch.ones(1, 3), fell_back=False)
    bare = torch.full((1, 3), -1)
    assert paint_masks(masks, bare, rest).labels.tolist() == [[0, 3, 0]]
    assert paint_masks(masks, bare, rest).confidence.tolist() == [[1, 1, 1]]
    assert paint_masks(masks, bare, None).labels.tolist() == [[0, 0, 0]]


def test_superpixels_must_be_there_and_fit():
    with pytest.raises(ValueError, match="task=superpixels"):
        sams()(torch.rand(1, 2, 2), torch.tensor([0]), None, (4, 4))
    with pytest.raises(ValueError, match=r"\(4, 4\) \(height, width\), expected \(4, 5\)"):
        sams()(torch.rand(1, 2, 2), torch.tensor([0]), Superpixels.empty((4, 4)), (4, 5))


def test_half_precision_cams_give_the_seed_of_their_values():
    cams, masks, levels, _ = random_scene(4)
    arguments = torch.tensor([0, 1, 2]), make_superpixels(masks, levels), tuple(masks.shape[1:])
    assert torch.equal(
        sams()(cams.half(), *arguments).labels, sams()(cams.half().float(), *arguments).labels
    )


@pytest.mark.gpu
def test_cuda_gives_the_seed_of_the_cpu():
    for seed in range(20):
        cams, masks, levels, _ = random_scene(seed)
        superpixels, classes = make_superpixels(masks, levels), torch.tensor([0, 8, 19])
        for seeder in (cam_seeder(), sams(fill=cam_seeder()), sams(priority=[smaller_area])):
            expected = seeder(cams, classes, superpixels, superpixels.size)
            found = seeder(cams.cuda(), classes.cuda(), superpixels, superpixels.size)
            assert found.labels.is_cuda
            assert torch.equal(found.labels.cpu(), expected.labels)
            torch.testing.assert_close(found.confidence.cpu(), expected.confidence)

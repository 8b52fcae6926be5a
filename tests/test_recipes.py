"""The recipes carry the published numbers of METHOD 1 and 8."""

from __future__ import annotations

import pytest
import torch
from front_door import compose_config
from hydra.utils import instantiate
from omegaconf import DictConfig

COLUMNS = (("cls", "voc"), ("seg", "voc"), ("cls", "coco"), ("seg", "coco"))
# The table of METHOD 8, and its last line: VOC cls, VOC seg, COCO cls, COCO seg
PUBLISHED: dict[str, list] = {
    "context length": [16, 16, 16, 16],
    "contexts": ["share_contexts", "context_per_class", "share_contexts", "share_contexts"],
    "name": ["name_at_end", "name_at_front", "name_at_end", "name_at_end"],
    "std of contexts": [0.015, 0.0125, 0.015, 0.015],
    "background prompts": ["25 named", "25 empty", "23 named", "23 named"],
    "loss": [
        "ContrastiveLoss average_pairs",
        "CamActivationLoss l1 reduce_all",
        "ContrastiveLoss average_pairs",
        "CamActivationLoss l1 reduce_all",
    ],
    "labels of a crop": ["all", "keep_labels_in_crop", "all", "all"],
    "image labels": ["LabelsFromMasks"] * 4,
    "iterations": [1800, 17000, 20500, 75000],
    "warm-up": [500, 500, 1000, 1000],
    "batch": [16, 16, 16, 16],
    "micro-batches": [1, 1, 4, 8],
    "save every": [1000, 1700, 2050, 7500],
    "validate every": [3000, 5100, 6150, 22500],
    "validate on": ["all of trainaug", "all of trainaug", "1250 of train", "1250 of train"],
    "checkpoint": ["last", "last", 6150, 45000],
    "crop": [224, 224, 224, 224],
    "long side": [[288, 480], [288, 480], [318, 530], [318, 531]],
    "short side": [224, 224, 224, 224],
    "CAA": [[1, 0.4, 2, "score_cams"], [1, 0.5, 2, "keep_cams"], [1, 0.6, 2, "keep_cams"], "none"],
    "power of SAMS": [0.6, 0.7, 0.4, 1.0],
    "seed of contexts": ["真", "机", "真", "真"],
}

VOC = (
    "aeroplane; bicycle; bird avian; boat; bottle; bus; car; cat; chair seat; cow; diningtable; "
    "dog; horse; motorbike; person with clothes,people,human; pottedplant; sheep; sofa; train; "
    "tvmonitor screen"
)
COCO = (
    "person with clothes,people,human; bicycle; car; motorbike; aeroplane; bus; train; truck; "
    "boat; traffic light; fire hydrant; stop sign; parking meter; bench; bird avian; cat; dog; "
    "horse; sheep; cow; elephant; bear; zebra; giraffe; backpack,bag; umbrella,parasol; "
    "handbag,purse; necktie; suitcase; frisbee; skis; sknowboard; sports ball; kite; baseball bat; "
    "glove; skateboard; surfboard; tennis racket; bottle; wine glass; cup; fork; knife; "
    "dessertspoon; bowl; banana; apple; sandwich; orange; broccoli; carrot; hot dog; pizza; donut; "
    "cake; chair seat; sofa; pottedplant; bed; diningtable; toilet; tvmonitor screen; laptop; "
    "mouse; remote control; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; "
    "book; clock; vase; scissors; teddy bear; hairdrier,blowdrier; toothbrush"
)
BACKGROUND = (
    "ground, land, grass, tree, building, wall, sky, lake, water, river, sea, railway, railroad, "
    "keyboard, helmet, cloud, house, mountain, ocean, road, rock, street, valley, bridge, sign"
)


def name_target(node: DictConfig) -> str:
    """The name of what a node builds, with the functions that choose its variant."""
    inner = [node[key]._target_ for key in ("average", "distance", "reduce") if key in node]
    return " ".join(target.split(".")[-1] for target in (node._target_, *inner))


def name_crop_labels(view: DictConfig) -> str:
    """The name of what chooses the labels of a crop; a crop keeps all those of its image."""
    named = name_target(view.crop_labels) if "crop_labels" in view else "keep_image_labels"
    return "all" if named == "keep_image_labels" else named


def describe(task: str, dataset: str) -> dict[str, object]:
    """The resolved values of one recipe, in the rows of the published table."""
    cfg = compose_config("train", f"task={task}", f"dataset={dataset}")
    stage, prompts, view = cfg.stage, cfg.stage.model.prompts, cfg.stage.training.view
    caa, contexts = stage.applying.seeding.refine, prompts.contexts
    validation = stage.runtime.validation
    background = list(stage.model.background)
    values = (
        [caa.iterations, caa.threshold, caa.power, caa["values"]._target_.split(".")[-1]]
        if "power" in caa
        else "none"
    )
    return {
        "context length": contexts.length,
        "contexts": name_target(prompts.share),
        "name": name_target(prompts.place_name),
        "std of contexts": contexts.std,
        "background prompts": f"{len(background)} {'named' if all(background) else 'empty'}",
        "loss": name_target(stage.learning.loss),
        "labels of a crop": name_crop_labels(view),
        "image labels": name_target(cfg.dataset.labels),
        "iterations": stage.training.loop.max_steps,
        "warm-up": stage.learning.scheduler.warmup,
        "batch": view.batch_size,
        "micro-batches": view.micro_batches,
        "save every": stage.runtime.save_every,
        "validate every": stage.runtime.val_every,
        "validate on": f"{validation.images or 'all'} of {validation.split}",
        "checkpoint": stage.runtime.apply_step or "last",
        "crop": view.augment.crop,
        "long side": list(view.augment.long_side),
        "short side": view.augment.short_side,
        "CAA": values,
        "power of SAMS": stage.applying.seeding.sams.background_power,
        "seed of contexts": contexts.generator_seed.name,
    }


def test_the_recipes_resolve_to_the_published_table():
    resolved = [describe(*column) for column in COLUMNS]
    found = {row: [column[row] for column in resolved] for row in PUBLISHED}
    for row, values in {
        "resolved": [f"{dataset} {task}" for task, dataset in COLUMNS],
        **found,
    }.items():
        print(f"{row:20}", *(f"{value!s:32}" for value in values))  # noqa: T201 (pytest -s shows it)
    assert found == PUBLISHED


@pytest.mark.parametrize(("task", "dataset"), COLUMNS)
def test_what_all_prompt_recipes_share(task, dataset):
    stage = compose_config("train", f"task={task}", f"dataset={dataset}").stage
    optimizer, jitter = stage.learning.optimizer, stage.training.view.augment.jitter
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (1e-3, 0.9, 5e-4)
    assert stage.learning.scheduler.warmup_lr == 1e-5
    assert stage.training.loop.precision == "16-mixed"
    assert (jitter.brightness, jitter.hue) == (25, 25)
    assert (jitter.contrast, jitter.saturation) == ([0.6, 1.4], [0.5, 1.5])
    assert list(stage.runtime.arguments.val_powers) == [5, 10]
    assert stage.applying.seeding.refine.get("attention_blocks", 8) == 8


def test_names():
    background = BACKGROUND.split(", ")
    expected = {
        "voc": (VOC, background),
        "coco": (COCO, [n for n in background if n not in ("keyboard", "sign")]),
    }
    for dataset, (classes, backgrounds) in expected.items():
        for task in ("cls", "seg"):
            cfg = compose_config("train", f"task={task}", f"dataset={dataset}")
            prompt_names, background_names = cfg.dataset.prompt_names, cfg.stage.model.background
            found = [list(prompt_names), list(background_names), len(cfg.dataset.classes)]
            print(f"{dataset} {task}: {'; '.join(found[0])} | {', '.join(found[1])}")  # noqa: T201
            empty = (task, dataset) == ("seg", "voc")
            assert found == [
                classes.split("; "),
                [""] * 25 if empty else backgrounds,
                len(classes.split("; ")),
            ]


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_superpixels(dataset):
    cfg = compose_config("infer", "task=superpixels", f"dataset={dataset}")
    assert cfg.stage.applying.generator == cfg.masks
    generator = dict(cfg.masks)
    for free in ("_target_", "_partial_", "predictor"):
        del generator[free]
    assert cfg.sam.kind == "vit_h"
    assert generator == {
        "points_per_side": 32,
        "pred_iou_thresh": 0.86,
        "stability_score_thresh": 0.92,
        "stability_score_offset": 1.0,
        "box_nms_thresh": 0.7,
        "crop_n_layers": 1,
        "crop_nms_thresh": 0.7,
        "crop_overlap_ratio": pytest.approx(512 / 1500),
        "crop_n_points_downscale_factor": 2,
        "min_mask_region_area": 100,
        "iou_offsets": [0, 0, 0.1],
        "nms_offsets": [0, 0, 1.0],
        "stability_offsets": [0, 0, 0],
        "recall_threshold": 0.3,
    }


@pytest.mark.parametrize(
    ("dataset", "steps", "split"), [("voc", 80000, "trainaug"), ("coco", 100000, "train")]
)
def test_network_recipes(dataset, steps, split):
    stage = compose_config("train", "task=network", f"dataset={dataset}").stage
    learning, view, seen = stage.learning, stage.training.view, stage.prediction.view
    build, loss, groups = learning.network, learning.loss, learning.parameters
    assert build._target_ == "fmawsss.networks.mask2former.Mask2FormerNetwork"
    assert learning.weights.repository.endswith("swin-large-patch4-window12-384-in22k")
    assert (build.decoder.num_queries, build.decoder.decoder_layers, build.swin.drop_path_rate) == (
        50,
        10,
        0.3,
    )
    assert (loss.class_weight, loss.mask_weight, loss.dice_weight, loss.no_object_weight) == (
        2,
        5,
        5,
        0.1,
    )
    assert (loss.points, loss.oversample, loss.importance) == (12544, 3, 0.75)
    optimizer, scheduler, loop = learning.optimizer, learning.scheduler, stage.training.loop
    assert (optimizer.lr, optimizer.weight_decay, groups.encoder_factor) == (1e-4, 0.05, 0.1)
    assert (groups.lr, groups.weight_decay) == (1e-4, 0.05)
    assert optimizer._target_ == "torch.optim.AdamW"
    assert (scheduler.power, scheduler.total, loop.max_steps) == (0.9, steps, steps)
    assert (loop.gradient_clip_val, view.batch_size, stage.runtime.val_every) == (0.01, 8, 5000)
    runtime = stage.runtime
    assert (view.split, runtime.validation.split, runtime.apply_to) == (split, "val", "val")
    assert (view.augment.crop, view.augment.class_share) == (512, 0.75)
    assert list(view.augment.scales) == [scale / 10 for scale in range(5, 21)]
    assert (seen.resize.side, seen.resize.longest) == (512, 2048)
    assert list(seen.normalise.mean) == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("dataset", ["shapes", "voc", "coco"])
@pytest.mark.parametrize(
    ("loss", "expected"),
    [("cam_activation", 1.0), ("cam_activation_l2", 0.5), ("cam_activation_fg_bg", 0.5)],
)
def test_no_loss_of_the_command_line_wants_a_peak_below_zero(dataset, loss, expected):
    """METHOD 4: m = max(0, ·), so that a CAM of -1 under a seed of all foreground is 1 away."""
    cfg = compose_config("train", "task=seg", f"dataset={dataset}", f"loss={loss}")
    where = torch.tensor([0]), torch.tensor([0])
    found = instantiate(cfg.stage.learning.loss)(
        torch.tensor([[[-1.0]]]), torch.tensor([[[1]]]), *where
    )
    assert found.foreground == pytest.approx(expected, abs=1e-4)

"""The recipes carry the published numbers of METHOD 1 and 8."""

from __future__ import annotations

import pytest
from front_door import compose_config

# task, dataset: iterations, warm-up, batch, micro-batches, save, validate, checkpoint used, crop range, K, std,
# background prompts, labels of the crop, CAA (iterations, threshold, power, values), SAMS power
PUBLISHED = {
    ("cls", "voc"): (
        1800,
        500,
        16,
        1,
        1000,
        3000,
        None,
        (288, 480),
        16,
        0.015,
        25,
        None,
        (1, 0.4, 2, "score_cams"),
        0.6,
    ),
    ("seg", "voc"): (
        17000,
        500,
        16,
        1,
        1700,
        5100,
        None,
        (288, 480),
        16,
        0.0125,
        25,
        "keep_labels_in_crop",
        (1, 0.5, 2, "keep_cams"),
        0.7,
    ),
    ("cls", "coco"): (
        20500,
        1000,
        16,
        4,
        2050,
        6150,
        6150,
        (318, 530),
        16,
        0.015,
        23,
        None,
        (1, 0.6, 2, "keep_cams"),
        0.4,
    ),
    ("seg", "coco"): (75000, 1000, 16, 8, 7500, 22500, 45000, (318, 531), 16, 0.015, 23, None, None, 1.0),
}


def describe(task: str, dataset: str) -> tuple:
    cfg = compose_config("train", f"task={task}", f"dataset={dataset}")
    caa = cfg.affinity
    refined = (caa.iterations, caa.threshold, caa.power, caa["values"].path.split(".")[-1]) if "power" in caa else None
    crop_labels = cfg.data.get("crop_labels")
    return (
        cfg.loop.max_steps,
        cfg.module.scheduler.warmup,
        cfg.data.batch_size,
        cfg.data.micro_batches,
        cfg.save_every,
        cfg.val_every,
        cfg.apply_step,
        tuple(cfg.augment.long_side),
        cfg.prompts.contexts.length,
        cfg.prompts.contexts.std,
        len(cfg.module.background),
        crop_labels._target_.split(".")[-1] if crop_labels else None,
        refined,
        cfg.seeding.sams.background.power,
    )


@pytest.mark.parametrize(("task", "dataset"), sorted(PUBLISHED))
def test_prompt_recipes(task, dataset):
    assert describe(task, dataset) == PUBLISHED[task, dataset]


@pytest.mark.parametrize(("task", "dataset"), sorted(PUBLISHED))
def test_what_all_prompt_recipes_share(task, dataset):
    cfg = compose_config("train", f"task={task}", f"dataset={dataset}")
    assert (cfg.optimizer.lr, cfg.optimizer.momentum, cfg.optimizer.weight_decay) == (1e-3, 0.9, 5e-4)
    assert (cfg.module.scheduler.warmup_lr, cfg.loop.precision) == (1e-5, "16-mixed")
    assert (cfg.augment.short_side, cfg.augment.crop) == (224, 224)
    assert (cfg.augment.jitter.brightness, cfg.augment.jitter.hue) == (25, 25)
    assert (cfg.augment.jitter.contrast, cfg.augment.jitter.saturation) == ([0.6, 1.4], [0.5, 1.5])
    assert list(cfg.module.val_powers) == [5, 10]
    assert cfg.affinity.get("attention_blocks", 8) == 8


@pytest.mark.parametrize(
    ("task", "dataset", "place", "share", "name"),
    [
        ("cls", "voc", "name_at_end", "share_contexts", "真"),
        ("seg", "voc", "name_at_front", "context_per_class", "机"),
        ("cls", "coco", "name_at_end", "share_contexts", "真"),
        ("seg", "coco", "name_at_end", "share_contexts", "真"),
    ],
)
def test_contexts(task, dataset, place, share, name):
    prompts = compose_config("train", f"task={task}", f"dataset={dataset}").prompts
    assert prompts.place_name._target_ == f"fmawsss.prompts.{place}"
    assert prompts.share._target_ == f"fmawsss.prompts.{share}"
    assert prompts.contexts.generator_seed.name == name


def test_voc_segmentation_has_empty_background_names():
    cfg = compose_config("train", "task=seg", "dataset=voc")
    assert set(cfg.module.background) == {""}


@pytest.mark.parametrize(("dataset", "classes"), [("voc", 20), ("coco", 80)])
def test_names(dataset, classes):
    cfg = compose_config("train", "task=cls", f"dataset={dataset}")
    assert len(cfg.dataset.classes) == len(cfg.dataset.names) == classes
    assert "person with clothes,people,human" in cfg.dataset.classes


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_superpixels(dataset):
    cfg = compose_config("infer", "task=superpixels", f"dataset={dataset}")
    generator = dict(cfg.module.generator)
    for free in ("_target_", "_partial_", "encoder", "points_per_batch", "crops_per_batch", "chunk_megabytes"):
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


@pytest.mark.parametrize(("dataset", "steps", "split"), [("voc", 80000, "trainaug"), ("coco", 100000, "train")])
def test_network_recipes(dataset, steps, split):
    cfg = compose_config("train", "task=network", f"dataset={dataset}")
    build, loss, groups = cfg.network.build, cfg.module.loss, cfg.module.parameters
    assert build._target_ == "fmawsss.mask2former.Mask2FormerNetwork"
    assert cfg.module.weights.repository.endswith("swin-large-patch4-window12-384-in22k")
    assert (build.decoder.num_queries, build.decoder.decoder_layers, build.swin.drop_path_rate) == (50, 10, 0.3)
    assert (loss.class_weight, loss.mask_weight, loss.dice_weight, loss.no_object_weight) == (2, 5, 5, 0.1)
    assert (loss.points, loss.oversample, loss.importance) == (12544, 3, 0.75)
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, groups.encoder_factor) == (1e-4, 0.05, 0.1)
    assert (groups.lr, groups.weight_decay) == (1e-4, 0.05)
    assert cfg.optimizer._target_ == "torch.optim.AdamW"
    assert (cfg.scheduler.power, cfg.scheduler.total, cfg.loop.max_steps) == (0.9, steps, steps)
    assert (cfg.loop.gradient_clip_val, cfg.data.batch_size, cfg.val_every) == (0.01, 8, 5000)
    assert (cfg.data.train_split, cfg.data.val_split, cfg.data.predict_split) == (split, "val", "val")
    assert (cfg.augment.crop, cfg.augment.class_share) == (512, 0.75)
    assert list(cfg.augment.scales) == [scale / 10 for scale in range(5, 21)]
    assert (cfg.data.resize.side, cfg.data.resize.longest) == (512, 2048)
    assert list(cfg.data.image_mean) == [0.485, 0.456, 0.406]

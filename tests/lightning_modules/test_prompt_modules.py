"""The two prompt tasks learn: a step lowers the loss, only contexts are trained and saved."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from front_door import compose_config

from datamodules.sample import Sample, collate_samples
from fmawsss.records import Batch
from stages.builder import StageBuilder

CLASSES = ["circle", "square", "triangle"]
PROMPT_NAMES = ["circle", "square", "corner"]


def build(task: str, *overrides: str) -> L.LightningModule:
    cfg = compose_config("train", f"task={task}", "logger=none", *overrides)
    builder = StageBuilder(cfg, "stage", cfg.stage, SimpleNamespace(seed=cfg.seed), learning=True)
    module = builder.make_module(CLASSES, PROMPT_NAMES)
    module.trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return module


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    seeds = torch.zeros(4, 112, 112, dtype=torch.uint8)
    for image, row in enumerate(labels):
        for index in row.nonzero().flatten().tolist():
            seeds[image, 30 * index : 30 * index + 40, 20:80] = index + 1
    return Batch(
        names=list("abcd"),
        images=torch.randn(4, 3, 112, 112, generator=generator),
        sizes=[(112, 112)] * 4,
        labels=labels,
        seeds=seeds,
    )


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_training_lowers_the_loss(task):
    module, batch = build(task), make_batch()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = module.training_loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


LOSSES = [
    ("cls", name)
    for name in ("soft_margin", "su", "zlpr", "contrastive_sharpness", "contrastive_sample_mean")
]
LOSSES += [("seg", name) for name in ("cam_activation_l2", "cam_activation_fg_bg")]


@pytest.mark.parametrize(("task", "name"), LOSSES)
def test_every_published_loss_can_be_descended(task, name):
    module, batch = build(task, f"loss={name}"), make_batch()
    module.training_loss(batch)["loss"].backward()
    assert module.prompts.context.grad.abs().max() > 0


def test_a_learned_threshold_is_trained_and_kept():
    module = build("cls", "loss=zlpr", "loss.learned=true")
    module.training_loss(make_batch())["loss"].backward()
    assert module.loss.threshold.grad.abs() > 0
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert sorted(checkpoint["state_dict"]) == ["loss.threshold", "prompts.context"]


def test_the_cam_of_the_released_code_can_be_chosen():
    images, labels = make_batch().images[:1], torch.tensor([[True, False, True]])
    padding = torch.zeros(1, 112, 112, dtype=torch.bool)
    padding[:, 56:] = True
    batch = Batch(["a"], images, [(56, 112)], labels=labels, padding=padding)
    released = build("cls", "module.compute_cams._target_=fmawsss.cam.compute_cams_released")
    cams = []
    for module in (build("cls"), released):
        module.on_predict_start()
        cams.append(module.predict_step(batch)[0].cams)
    torch.testing.assert_close(cams[1], cams[0] / 2)


def test_padding_changes_no_training_loss():
    """Each image alone, and both in one batch, the smaller padded."""
    module = build("seg", "loss.reduce._target_=fmawsss.losses.reduce_fg_bg_per_positive")
    generator = torch.Generator().manual_seed(0)
    samples = [
        Sample(
            name,
            torch.randn(3, height, width, generator=generator),
            (height, width),
            labels=torch.tensor([True, False, False]),
            seed=torch.randint(0, 2, (height, width), generator=generator).to(torch.uint8),
        )
        for name, height, width in (("a", 112, 112), ("b", 80, 64))
    ]
    alone = [module.training_loss(collate_samples([sample]))["loss"] for sample in samples]
    together = module.training_loss(collate_samples(samples))["loss"]
    torch.testing.assert_close(together, sum(alone) / 2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_only_the_contexts_are_trained(task):
    trained = [name for name, p in build(task).named_parameters() if p.requires_grad]
    assert trained == ["prompts.context"]


def test_classification_computes_no_cam():
    module = build("cls")
    module.compute_cams = None
    assert module.training_loss(make_batch())["loss"].requires_grad


def test_handwritten_prompts_learn_nothing():
    assert not any(p.requires_grad for p in build("cls", "prompts=handwritten").parameters())


def test_seeds_of_a_batch_equal_seeds_one_by_one():
    module, batch = build("cls"), make_batch()
    module.on_predict_start()
    together = module.predict_step(batch)
    for index, prediction in enumerate(together):
        alone = Batch(
            names=[batch.names[index]],
            images=batch.images[index : index + 1],
            sizes=[batch.sizes[index]],
            labels=batch.labels[index : index + 1],
        )
        single = module.predict_step(alone)[0]
        assert torch.allclose(prediction.cams, single.cams, atol=1e-6)
        assert torch.equal(prediction.seeds["caa"].labels, single.seeds["caa"].labels)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cls", "seg"])
def test_a_compiled_encoder_gives_the_same(task):
    plain, compiled = build(task), build(task)
    compiled.compile_parts()
    losses = [module.training_loss(make_batch())["loss"] for module in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-7)
    for module in (plain, compiled):
        module.on_predict_start()
    cams = [module.predict_step(make_batch())[0].cams for module in (plain, compiled)]
    torch.testing.assert_close(cams[1], cams[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_stays_near(precision):
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
    for task in ("cls", "seg"):
        module = build(task)
        expected = module.training_loss(make_batch())["loss"]
        with torch.autocast("cpu", dtype):
            found = module.training_loss(make_batch())["loss"]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=1e-3)


def test_padding_changes_nothing():
    module = build("cls")
    module.on_predict_start()
    image = make_batch().images[1:2, :, :96, :80]
    labels = torch.tensor([[True, False, True]])
    padded = torch.zeros(1, 3, 112, 112)
    padded[:, :, :96, :80] = image
    padding = torch.ones(1, 112, 112, dtype=torch.bool)
    padding[:, :96, :80] = False
    alone = module.predict_step(Batch(["a"], image, [(96, 80)], labels=labels))[0]
    inside = module.predict_step(Batch(["a"], padded, [(96, 80)], labels=labels, padding=padding))[
        0
    ]
    assert alone.cams.shape == inside.cams.shape == (2, 12, 10)
    assert torch.allclose(alone.cams, inside.cams, atol=1e-5 * alone.cams.abs().max().item() + 1e-7)
    assert torch.equal(alone.seeds["caa"].labels, inside.seeds["caa"].labels)


def test_an_image_without_labels_is_background():
    module = build("cls")
    module.on_predict_start()
    batch = Batch(
        ["a"], make_batch().images[:1], [(50, 60)], labels=torch.zeros(1, 3, dtype=torch.bool)
    )
    prediction = module.predict_step(batch)[0]
    assert prediction.seeds["caa"].labels.shape == (50, 60)
    assert not prediction.seeds["caa"].labels.any()


def test_a_checkpoint_of_other_classes_is_refused():
    module = build("cls")
    saved = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    module.on_load_checkpoint(saved)
    for names in ("classes", "prompt_names"):
        with pytest.raises(ValueError, match="dog"):
            module.on_load_checkpoint({**saved, names: ["dog"]})


def test_the_classes_of_an_older_checkpoint_are_prompt_names():
    module = build("cls")
    state = {"state_dict": module.state_dict()}
    module.on_load_checkpoint({**state, "classes": PROMPT_NAMES})
    with pytest.raises(ValueError, match=r"prompt names \['circle', 'square', 'triangle'\]"):
        module.on_load_checkpoint({**state, "classes": CLASSES})


def test_a_checkpoint_without_contexts_is_refused():
    with pytest.raises(ValueError, match=r"prompts\.context"):
        build("cls").on_load_checkpoint({"state_dict": {}, "classes": PROMPT_NAMES})


def test_a_validation_counts_a_batch_as_its_images():
    batch, generator = make_batch(), torch.Generator().manual_seed(1)
    sizes = [(50, 40), (64, 64), (50, 40), (33, 70)]
    truths = [torch.randint(0, 4, size, generator=generator).to(torch.uint8) for size in sizes]
    batch = replace(batch, truths=truths)
    matrices = []
    for parts in ([[0, 1, 2, 3]], [[0], [1], [2], [3]]):
        module = build("cls")
        module.on_validation_epoch_start()
        with torch.no_grad():
            for number, part in enumerate(parts):
                module.validation_step(take(batch, part), number)
        matrices.append(torch.stack([metric.matrix for metric in module.metrics]))
    assert matrices[0].sum() == 2 * sum(truth.numel() for truth in truths)
    assert torch.equal(*matrices)


def take(batch: Batch, images: list[int]) -> Batch:
    return Batch(
        names=[batch.names[image] for image in images],
        images=batch.images[images],
        sizes=[batch.sizes[image] for image in images],
        labels=batch.labels[images],
        truths=[batch.truths[image] for image in images],
    )


def test_truths_stay_where_masks_are_scored():
    batch = replace(make_batch(), truths=[torch.zeros(2, 2, dtype=torch.uint8), None, None, None])
    moved = batch.to("meta")
    assert moved.images.device.type == "meta"
    assert moved.truths[0].device.type == "cpu"

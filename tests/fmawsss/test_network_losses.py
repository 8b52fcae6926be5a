"""Losses of networks: against obvious versions, with ignored pixels, and shared among processes."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from network_tools import draw_queries

from benchmarks.counts import HostReads
from fmawsss.networks.losses import PixelLoss
from fmawsss.networks.mask2former import MaskQueries
from fmawsss.networks.mask_set_loss import MaskSetLoss
from fmawsss.networks.point_targets import PointTargets
from fmawsss.networks.targets import PixelTargets

PUBLISHED = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1}
SETTINGS = {**PUBLISHED, "points": 50, "oversample": 3, "importance": 0.75}


def draw_labels(images=2, size=(8, 10), classes=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, *size), generator=generator)
    labels[:, 2:5, 3:7] = 255
    return labels


def compute_loss(loss, answer, targets, **more):
    torch.manual_seed(0)
    return loss(answer, targets, **more)


def test_pixels_are_averaged_by_weight():
    logits, labels = torch.randn(2, 4, 8, 10), draw_labels()
    assert PixelLoss()(logits, PixelTargets(labels)) == pytest.approx(
        F.cross_entropy(logits, labels, ignore_index=255)
    )
    weight = torch.rand(2, 8, 10)
    expected = sum(
        weight[b, y, x] * -logits[b, :, y, x].log_softmax(0)[labels[b, y, x]]
        for b, y, x in (labels != 255).nonzero().tolist()
    )
    expected = expected / weight[labels != 255].sum()
    torch.testing.assert_close(PixelLoss()(logits, PixelTargets(labels, weight)), expected)


def test_a_label_that_is_less_sure_leaves_the_rest_to_the_others():
    logits, certainty = torch.randn(1, 4, 1, 1), torch.full((1, 1, 1), 0.7)
    wanted = torch.tensor([0.1, 0.7, 0.1, 0.1])
    expected = -(wanted * logits[0, :, 0, 0].log_softmax(0)).sum()
    torch.testing.assert_close(
        PixelLoss()(logits, PixelTargets(torch.ones(1, 1, 1).long(), None, certainty)), expected
    )


def test_edges_add_what_neighbours_within_superpixels_differ_by():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 8, 10), draw_labels()
    certainty, inner = 0.5 + torch.rand(2, 8, 10) / 2, torch.rand(2, 8, 10) > 0.4
    answers = logits.softmax(1)

    # the collision cross-entropy, pixel by pixel
    collisions = []
    for b, y, x in (labels != 255).nonzero().tolist():
        wanted = torch.full((4,), (1 - certainty[b, y, x].item()) / 3)
        wanted[labels[b, y, x]] = certainty[b, y, x]
        collisions.append(-(answers[b, :, y, x] * wanted).sum().log())

    # half the squared difference of each pair of neighbours
    pairs = []
    for b, y, x in inner.nonzero().tolist():
        for below, right in ((1, 0), (0, 1)):
            if y + below < 8 and x + right < 10 and inner[b, y + below, x + right]:
                apart = answers[b, :, y, x] - answers[b, :, y + below, x + right]
                pairs.append(apart.square().sum() / 2)

    expected = torch.stack(collisions).mean() + 3 * torch.stack(pairs).mean()
    targets = PixelTargets(labels, None, certainty, inner, smoothness=3)
    torch.testing.assert_close(PixelLoss()(logits, targets), expected)
    with pytest.raises(ValueError, match="sampled points"):
        PointTargets.collect(targets, classes=4)


def test_without_valid_pixels_the_losses_are_zero_and_keep_their_graph():
    nothing = PixelTargets(torch.full((2, 8, 10), 255))
    logits, queries = torch.randn(2, 4, 4, 5, requires_grad=True), draw_queries(2, 4, (4, 5))
    for loss in (PixelLoss()(logits, nothing), MaskSetLoss(**SETTINGS)(queries, nothing)):
        assert loss.item() == 0
        loss.backward()


def draw_each_once(self, images, points):
    """Draw every valid pixel of an image once."""
    valid = self.targets.labels.flatten(1) != 255
    pixels = [image.nonzero().flatten() + n * len(image) for n, image in enumerate(valid)]
    return torch.stack([pixels[image][:points] for image in images.tolist()])


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_mask_loss_is_the_obvious_one(monkeypatch, outputs):
    """Every valid pixel is drawn once, wherever points are drawn."""
    labels, queries = draw_labels(images=3), draw_queries(3, 4, (8, 10), outputs=outputs)
    labels[1][labels[1] == 2] = 0  # images show different classes
    points = int((labels[0] != 255).sum())
    monkeypatch.setattr(PointTargets, "draw", draw_each_once)
    loss = MaskSetLoss(**{**SETTINGS, "points": points, "oversample": 1, "importance": 1.0})
    expected = sum(
        spell_out(MaskQueries([classes], [masks]), labels, points)
        for classes, masks in zip(queries.classes, queries.masks, strict=True)
    )
    assert loss(queries, PixelTargets(labels)).item() == pytest.approx(expected, rel=1e-4)


def test_points_are_drawn_evenly_among_the_valid_pixels_of_their_image():
    labels = draw_labels(images=3)
    labels[1] = 255
    known = PointTargets.collect(PixelTargets(labels), 4)
    drawn = known.draw(torch.tensor([2, 0]), 20_000)
    for row, image in zip(drawn, (2, 0), strict=True):
        counted = torch.bincount(row, minlength=3 * 80).view(3, 8, 10)
        assert counted[image][labels[image] != 255].min() > 200
        assert counted[image].sum() == 20_000
        assert not counted[image][labels[image] == 255].any()
    assert known.present.tolist() == [
        [bool((image == label).any()) for label in range(4)] for image in labels
    ]


def test_a_step_looks_at_its_device_once():
    queries, targets = draw_queries(2, 4, (8, 10)), PixelTargets(draw_labels())
    loss = MaskSetLoss(**SETTINGS)
    loss(queries, targets).backward()
    with HostReads() as reads:
        loss(queries, targets).backward()
    assert reads.found == {"numpy": 2}  # costs and classes, which come in one piece


def spell_out(queries: MaskQueries, labels: torch.Tensor, points: int) -> float:
    class_loss = class_weight = mask_loss = 0.0
    masks_of_batch = sum(len(set(image.flatten().tolist()) - {255}) for image in labels)
    for answers, masks, image in zip(queries.classes[0], queries.masks[0], labels, strict=True):
        present = sorted(set(image.flatten().tolist()) - {255})
        valid = image != 255

        def compare(query, label, masks=masks, image=image, valid=valid):
            scores, truth = masks[query][valid].sigmoid(), (image[valid] == label).float()
            entropy = -(truth * scores.log() + (1 - truth) * (1 - scores).log()).mean()
            dice = 1 - (2 * (scores * truth).sum() + 1) / (scores.sum() + truth.sum() + 1)
            return 5 * entropy.item() + 5 * dice.item()

        costs = {
            (q, label): compare(q, label) - 2 * answers[q].softmax(0)[label].item()
            for q in range(len(masks))
            for label in present
        }
        best = min(
            permutations(range(len(masks)), len(present)),
            key=lambda p: sum(costs[q, k] for q, k in zip(p, present, strict=True)),
        )
        mask_loss += sum(compare(q, k) for q, k in zip(best, present, strict=True))
        wanted = dict(zip(best, present, strict=True))
        for query in range(len(masks)):
            label = wanted.get(query, answers.shape[1] - 1)
            weight = 1.0 if query in wanted else 0.1
            class_loss -= weight * answers[query].log_softmax(0)[label].item()
            class_weight += weight
    return 2 * class_loss / class_weight + mask_loss / masks_of_batch


def test_logits_under_ignored_pixels_change_neither_loss_nor_gradient():
    labels = draw_labels()
    targets, ignored = PixelTargets(labels), labels == 255
    loss = MaskSetLoss(**SETTINGS)
    queries = draw_queries(2, 4, (8, 10))
    other = MaskQueries(
        queries.classes,
        [m.detach().masked_fill(ignored[:, None], 50.0).requires_grad_() for m in queries.masks],
    )
    first, second = compute_loss(loss, queries, targets), compute_loss(loss, other, targets)
    assert first.item() == second.item()
    gradients = [
        torch.autograd.grad(value, [*one.masks, *one.classes])
        for value, one in ((first, queries), (second, other))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    for gradient in gradients[0][:2]:
        assert gradient.abs().sum() > 0
        assert gradient.masked_select(ignored[:, None]).abs().sum() == 0


def test_pixels_of_weight_zero_are_as_good_as_ignored():
    labels, queries, loss = draw_labels(), draw_queries(2, 4, (8, 10)), MaskSetLoss(**SETTINGS)
    weight = (labels != 255).float()
    shown = torch.where(labels == 255, 0, labels)
    assert compute_loss(loss, queries, PixelTargets(shown, weight)) == compute_loss(
        loss, queries, PixelTargets(labels)
    )


def test_points_are_the_least_sure_ones_and_never_ignored():
    labels = draw_labels(images=1, size=(40, 40))
    known = PointTargets.collect(PixelTargets(labels), 4)
    masks = (
        torch.linspace(-9, 9, 40).expand(3, 40, 40).contiguous()
    )  # least sure in the middle columns
    points = MaskSetLoss(**{**SETTINGS, "points": 400}).choose_points(
        masks, torch.zeros(3, dtype=torch.long), known
    )
    assert points.shape == (3, 400)
    assert (labels.flatten()[points] != 255).all()
    near = ((points % 40 - 19.5).abs() < 10).float().mean()
    assert 0.8 < near < 0.95  # three quarters, and half of the rest
    assert math.isclose(0.875, near, abs_tol=0.05)


def test_masks_are_read_as_if_resized_to_the_image():
    labels = draw_labels(images=1, size=(12, 20))
    known = PointTargets.collect(PixelTargets(labels), 4)
    masks, pixels = torch.randn(2, 3, 5), (labels.flatten() != 255).nonzero().flatten()
    resized = F.interpolate(masks[None], size=(12, 20), mode="bilinear", align_corners=False)[
        0
    ].flatten(1)
    torch.testing.assert_close(known.look(masks[None], pixels[None])[0], resized[:, pixels])


def test_two_processes_with_one_image_each_descend_as_one_with_both():
    """Masks and images without detail: whichever points are drawn, the loss is the same."""
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, :, :4], labels[0, :, 4:], labels[1] = 255, 1, 2
    generator = torch.Generator().manual_seed(3)
    answers = torch.randn(2, 3, 5, generator=generator, requires_grad=True)
    levels = torch.randn(2, 3, 1, 1, generator=generator, requires_grad=True)
    loss = MaskSetLoss(**SETTINGS)

    def run(part, share):
        queries = MaskQueries([answers[part]], [levels[part].expand(-1, -1, 8, 8)])
        return loss(queries, PixelTargets(labels[part]), share)

    whole = run(slice(0, 2), lambda count: count)
    counts: list[list[float]] = [[], []]
    for rank in (0, 1):
        run(
            slice(rank, rank + 1),
            lambda count, rank=rank: counts[rank].append(count.item()) or count,
        )
    means = [(a + b) / 2 for a, b in zip(*counts, strict=True)]
    halves = []
    for rank in (0, 1):
        given = iter(means)
        halves.append(
            run(slice(rank, rank + 1), lambda count, given=given: count * 0 + next(given))
        )
    torch.testing.assert_close(sum(halves) / 2, whole)
    expected = torch.autograd.grad(whole, [answers, levels])
    torch.testing.assert_close(torch.autograd.grad(sum(halves) / 2, [answers, levels]), expected)

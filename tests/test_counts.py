"""What a step and an image ask of a device: `python -m benchmarks --count`."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from network_tools import draw_queries

from benchmarks.__main__ import main
from benchmarks.counts import HostReads, Operations, count_calls, count_parts
from fmawsss.networks.mask_set_loss import MaskSetLoss
from fmawsss.networks.targets import PixelTargets

# No more than these (operations, host reads), counted at small sizes; operations differ by version
BOUNDS = {
    "2.14": {
        "cls": (218, 0),
        "seg": (716, 0),
        "predict_2": (469, 7),
        "predict_batch": (1162, 42),
        "masks_vit_b": (3247, 61),
    },
}


def test_nobody_adds_a_host_read_or_an_operation_unseen():
    version = ".".join(torch.__version__.split(".")[:2])
    bounds = BOUNDS.get(version, BOUNDS["2.14"])
    for name, counts in count_parts(list(bounds), quick=True, device="cpu").items():
        operations, reads = bounds[name]
        assert counts["host reads"] <= reads, name
        if version in BOUNDS:
            assert counts["operations"] <= operations, name


def test_the_loss_of_mask2former_reads_once_whatever_the_batch():
    loss = MaskSetLoss(2.0, 5.0, 5.0, 0.1, points=50, oversample=3, importance=0.75)
    counted = []
    for images in (2, 6):
        labels = torch.arange(4).view(1, 2, 2).repeat(images, 4, 5)
        queries = draw_queries(images, 4, (8, 10), outputs=3)
        found = count_calls(partial(loss, queries, PixelTargets(labels)))
        counted.append((found["host reads"].total(), found["operations"].total()))
    assert counted[0] == counted[1]
    assert counted[0][0] == 2  # costs and classes, which come in one piece


def test_reads_and_operations_are_counted_where_they_are_asked():
    x = torch.arange(6.0).view(2, 3).requires_grad_()

    def ask():
        y = (x * 2).sum()
        y.backward()
        if y > 0:
            x.detach()[x > 3].clone()
        return y.item(), x.view(3, 2)

    found = count_calls(ask)
    assert found["host reads"] == {"__bool__": 1, "mask": 1, "item": 1}
    assert found["copies"] == {"clone": 1}
    # forward and backward; views are none
    assert found["operations"]["mul"] == 2
    assert "view" not in found["operations"]


def test_counts_stand_beside_those_of_another_checkout(capsys, request):
    main(["--count", "--quick", "--parts", "caa_768", "--beside", str(request.config.rootpath)])
    row = capsys.readouterr().out.splitlines()[-1]
    before, after = row.split("|")[2].split("→")
    assert int(before) == int(after) > 0


@pytest.mark.parametrize("mode", [HostReads, Operations])
def test_nothing_is_counted_outside(mode):
    counter = mode()
    torch.ones(2).tolist()
    assert not counter.found

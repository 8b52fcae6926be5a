"""What an ONNX file makes of images, beside what our own resizing and normalising make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_trees import draw_image

from fmawsss.networks.inference import SINGLE_SCALE
from fmawsss.networks.onnx_ends import IMAGES, LABELS, LOGITS, SEEN, Steps, add_ends, see_images
from fmawsss.networks.segmenter import Segmenter
from fmawsss.resizing import (
    AlignToPatch,
    KeepSize,
    Normaliser,
    Resize,
    ResizeSquare,
    ShortSide,
    ShrinkToPatch,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NORMALISE = Normaliser((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
RULES = {
    "keep": KeepSize(),
    "align": AlignToPatch(16),
    "shrink": ShrinkToPatch(16, 100),
    "square": ResizeSquare(60, 16),
    "short": ShortSide(56, 140, 8),
}
SIZES = [(64, 80), (33, 47), (7, 90), (150, 101), (112, 112), (1, 1), (200, 37), (99, 250)]


def save(model, path):
    model.ir_version = 10
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def declare(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize("name", sorted(RULES))
def test_images_are_seen_as_by_us(name: str, tmp_path) -> None:
    rule: Resize = RULES[name]
    steps = Steps("before")
    seen, size = see_images(steps, rule, NORMALISE)
    outputs = [
        declare(seen, onnx.TensorProto.FLOAT, ["b", 3, "h", "w"]),
        declare(size, onnx.TensorProto.INT64, [2]),
    ]
    images = declare(IMAGES, onnx.TensorProto.UINT8, ["b", "H", "W", 3])
    graph = onnx.helper.make_graph(steps.nodes, name, [images], outputs, steps.constants)
    opset = [onnx.helper.make_opsetid("", 18)]
    session = save(onnx.helper.make_model(graph, opset_imports=opset), tmp_path / "seen.onnx")
    for index, shape in enumerate(SIZES):
        image = draw_image(index, shape)
        found, kept = session.run(None, {IMAGES: np.stack([image, image[::-1]])})
        expected = NORMALISE(rule(image)).transpose(2, 0, 1)
        assert found.shape == (2, *expected.shape)
        assert kept.tolist() == list(shape)
        step = NORMALISE.factor.max()  # one of 255
        assert np.abs(found[0] - expected).max() <= 1.01 * step
        assert (found[0] == expected).mean() > 0.995  # the others were halves, rounded here


def test_labels_are_those_of_the_segmenter(tmp_path) -> None:
    # A network that passes on what it sees
    node = onnx.helper.make_node("Identity", [SEEN], [LOGITS])
    doors = [declare(name, onnx.TensorProto.FLOAT, ["b", 3, "h", "w"]) for name in (SEEN, LOGITS)]
    graph = onnx.helper.make_graph([node], "passes", doors[:1], doors[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    add_ends(model, RULES["square"], NORMALISE, ["batch", "height", "width"])
    session = save(model, tmp_path / "labels.onnx")

    # The same in torch
    network = torch.nn.Conv2d(3, 3, 1).requires_grad_(False)
    network.weight.copy_(torch.eye(3)[:, :, None, None])
    network.bias.zero_()
    names = ("background", "a", "b")
    palette = np.zeros((3, 3), np.uint8)
    segmenter = Segmenter(network, names, palette, RULES["square"], NORMALISE, SINGLE_SCALE)
    for index, shape in enumerate(SIZES):
        image = draw_image(index, shape)
        (labels,) = session.run([LABELS], {IMAGES: np.stack([image[:, ::-1], image])})
        expected = segmenter.predict([image])[0].mask
        assert labels.dtype == np.uint8
        assert labels.shape == (2, *shape)
        assert (labels[1] == expected).mean() > 0.999


def test_a_rule_of_ones_own_is_left_to_the_program() -> None:
    class Halve:
        pass

    with pytest.raises(ValueError, match=r"Halve: .*format=onnx_probabilities"):
        see_images(Steps("before"), Halve(), NORMALISE)

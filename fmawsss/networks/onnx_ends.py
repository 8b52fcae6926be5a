"""Both ends of an ONNX file: from 8-bit images to what a network sees, from its logits to classes.

Resizing and normalising are those of `fmawsss.resizing`, in operators of ONNX.
"""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from fmawsss.resizing import AlignToPatch, KeepSize, Normaliser, ResizeSquare, ShortSide
from fmawsss.resizing import ShrinkToPatch as Shrink

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGES, LABELS = "images", "labels"
SEEN, LOGITS = "seen", "logits"  # what the network is given and gives
FIXED = 2.0**22  # Pillow's weights are whole numbers of this part


class Steps:
    """Nodes and constants of a part of a graph, in the order in which they run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node, and name its output."""
        from onnx import helper

        output = f"{self.name}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def hold(self, values: Any, dtype: type = np.int64) -> str:
        """Append a constant, and name it."""
        from onnx import numpy_helper

        name = f"{self.name}/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def convert(self, value: str, dtype: type) -> str:
        """Convert values to a type of numpy."""
        from onnx import helper

        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@singledispatch
def find_size(rule: object, steps: Steps, height: str, width: str) -> tuple[str, str]:
    """Name the height and width that a resize rule makes of those of an image, in a graph.

    Raises:
        ValueError: for a rule that is not on our list.
    """
    raise ValueError(
        f"{type(rule).__name__}: this resize rule cannot stand in an ONNX file; "
        "format=onnx_probabilities leaves it to the program"
    )


@find_size.register
def _(rule: KeepSize, steps: Steps, height: str, width: str) -> tuple[str, str]:
    return height, width


@find_size.register
def _(rule: AlignToPatch, steps: Steps, height: str, width: str) -> tuple[str, str]:
    patch, most = steps.hold(rule.patch), steps.hold(rule.patch - 1)
    aligned = [
        steps("Mul", steps("Div", steps("Add", side, most), patch), patch)
        for side in (height, width)
    ]
    return aligned[0], aligned[1]


@find_size.register
def _(rule: Shrink, steps: Steps, height: str, width: str) -> tuple[str, str]:
    longer = steps.convert(steps("Max", height, width), np.float64)
    one = steps.hold(1, np.float64)
    ratio = steps("Min", steps("Div", steps.hold(rule.longest, np.float64), longer), one)
    sides = [
        round_side(steps, steps("Mul", ratio, steps.convert(side, np.float64)))
        for side in (height, width)
    ]
    return find_size(AlignToPatch(rule.patch), steps, sides[0], sides[1])


@find_size.register
def _(rule: ResizeSquare, steps: Steps, height: str, width: str) -> tuple[str, str]:
    side = steps.hold(rule.find_size((1, 1))[0])
    return side, side


@find_size.register
def _(rule: ShortSide, steps: Steps, height: str, width: str) -> tuple[str, str]:
    # As `find_short_size`
    shorter, longer = (
        steps.convert(steps(kind, height, width), np.float64) for kind in ("Min", "Max")
    )
    ratio = steps(
        "Min",
        steps("Div", steps.hold(rule.side, np.float64), shorter),
        steps("Div", steps.hold(rule.longest, np.float64), longer),
    )
    half, patch = steps.hold(0.5, np.float64), steps.hold(rule.patch, np.float64)

    # To multiples of the patch
    sides = []
    for side in (height, width):
        scaled = steps("Mul", ratio, steps.convert(side, np.float64))
        whole = steps("Floor", steps("Add", scaled, half))
        patches = round_side(steps, steps("Div", whole, patch))
        sides.append(steps("Mul", patches, steps.hold(rule.patch)))
    return sides[0], sides[1]


def round_side(steps: Steps, side: str) -> str:
    """Round a side to a whole number, 1 at least; halves go to the even one as in Python."""
    return steps("Max", steps.convert(steps("Round", side), np.int64), steps.hold(1))


def weigh_pixels(steps: Steps, source: str, side: str) -> str:
    """Name the matrix (side, source) that resizes one side of an image as Pillow does, bicubically.

    Row i weighs the pixels of the source around (i + 1/2) source / side.
    """
    # Distances in pixels of the coarser side
    numbers = {name: steps.hold(name, np.float64) for name in (-4, -2.5, -0.5, 0.5, 1, 1.5, 2, 8)}
    zero, one = steps.hold(0), steps.hold(1)
    scale = steps("Div", steps.convert(source, np.float64), steps.convert(side, np.float64))
    rows, columns = (
        steps("Add", steps.convert(steps("Range", zero, end, one), np.float64), numbers[0.5])
        for end in (side, source)
    )
    centres = steps("Unsqueeze", steps("Mul", rows, scale), steps.hold([1]))
    reach = steps("Max", scale, numbers[1])
    x = steps("Abs", steps("Div", steps("Sub", columns, centres), reach))

    # 1 + x² (1.5 x - 2.5) below 1, -(((x - 5) x + 8) x - 4) / 2 below 2
    square = steps("Mul", x, x)
    inner = steps("Add", steps("Mul", x, numbers[1.5]), numbers[-2.5])
    near = steps("Add", steps("Mul", square, inner), numbers[1])
    falling = steps("Add", steps("Mul", steps("Sub", x, steps.hold(5, np.float64)), x), numbers[8])
    outer = steps("Add", steps("Mul", falling, x), numbers[-4])
    far = steps("Mul", outer, numbers[-0.5])
    tail = steps("Where", steps("Less", x, numbers[2]), far, steps.hold(0, np.float64))
    weights = steps("Where", steps("Less", x, numbers[1]), near, tail)

    # Rows sum to one, in Pillow's whole numbers
    shares = steps("Div", weights, steps("ReduceSum", weights, steps.hold([1]), keepdims=1))
    fixed = steps.hold(FIXED, np.float64)
    whole = steps("Floor", steps("Add", steps("Mul", shares, fixed), numbers[0.5]))
    return steps.convert(steps("Div", whole, fixed), np.float32)


def round_values(steps: Steps, values: str) -> str:
    """Round values to 8 bits, as Pillow does after each of both passes."""
    rounded = steps("Floor", steps("Add", values, steps.hold(0.5, np.float32)))
    return steps("Clip", rounded, steps.hold(0, np.float32), steps.hold(255, np.float32))


def see_images(steps: Steps, rule: object, normalise: Normaliser) -> tuple[str, str]:
    """Name what the network sees of `images`, and their height and width."""
    # Sizes
    shape = steps("Shape", IMAGES)
    height, width = (steps("Gather", shape, steps.hold(axis)) for axis in (1, 2))
    tall, wide = find_size(rule, steps, height, width)
    values = steps("Transpose", steps.convert(IMAGES, np.float32), perm=[0, 3, 1, 2])

    # First the width, then the height
    if not isinstance(rule, KeepSize):
        across = steps("Transpose", weigh_pixels(steps, width, wide), perm=[1, 0])
        values = round_values(steps, steps("MatMul", values, across))
        down = weigh_pixels(steps, height, tall)
        values = round_values(steps, steps("MatMul", down, values))

    # Then the values
    centre, factor = (
        steps.hold(numbers.reshape(1, -1, 1, 1), np.float32)
        for numbers in (normalise.centre, normalise.factor)
    )
    seen = steps("Mul", steps("Sub", values, centre), factor)
    return seen, steps("Slice", shape, steps.hold([1]), steps.hold([3]))


def choose_labels(steps: Steps, size: str) -> str:
    """Name the most probable class of each pixel of images of a size, as 8-bit numbers."""
    # Bilinearly to the images' own size
    kept = steps("Slice", steps("Shape", LOGITS), steps.hold([0]), steps.hold([2]))
    sizes = steps("Concat", kept, size, axis=0)
    resized = steps(
        "Resize", LOGITS, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    best = steps("ArgMax", resized, axis=1, keepdims=0)
    return steps.convert(best, np.uint8)


def add_ends(model: ModelProto, rule: object, normalise: Normaliser, axes: list[Any]) -> None:
    """Turn a model from `seen` to `logits` into one from `images` to `labels`, in place.

    rule: how images are resized. axes: their batch, height and width, names where they are open.
    """
    from onnx import TensorProto, helper

    # What comes before and after
    before, after = Steps("before"), Steps("after")
    seen, own = see_images(before, rule, normalise)
    before.nodes.append(helper.make_node("Identity", [seen], [SEEN]))
    after.nodes.append(helper.make_node("Identity", [choose_labels(after, own)], [LABELS]))

    # All in one graph
    nodes = [*before.nodes, *model.graph.node, *after.nodes]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*before.constants, *after.constants])

    # With new doors
    kind = TensorProto.UINT8
    model.graph.input.append(helper.make_tensor_value_info(IMAGES, kind, [*axes, 3]))
    model.graph.output.append(helper.make_tensor_value_info(LABELS, kind, axes))

"""Networks become masks: views averaged, windows joined, memory bounded, scores refined."""

from __future__ import annotations

import doctest
import importlib.util
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fmawsss.networks.inference as inference_file
from fmawsss.networks.inference import SINGLE_SCALE, SlidingWindows, WholeImages, weigh_window
from fmawsss.networks.refinement import DenseCrf, PixelAdaptive, keep_maps


class Blur(nn.Module):
    """Three classes, each a blurred channel: a pixel's scores depend on what is around it."""

    def __init__(self, side: int = 5) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(3, 3, side, padding=side // 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return 3 * self.convolve(images)


@pytest.fixture(autouse=True)
def frozen():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_doctests() -> None:
    assert doctest.testmod(inference_file).failed == 0


def test_views_are_averaged_as_written_down() -> None:
    network, images = Blur(), torch.randn(2, 3, 20, 30)
    answers = WholeImages((1.0, 0.5), True, keep_maps)(network, images, [(40, 60), (11, 17)])
    for index, size in enumerate([(40, 60), (11, 17)]):
        image, seen = images[index : index + 1], []
        half = F.interpolate(image, size=(10, 15), mode="bilinear", antialias=True)
        for view in (image, half):
            seen.append(F.interpolate(network(view), size=size, mode="bilinear").softmax(1))
            seen.append(
                F.interpolate(network(view.flip(3)).flip(3), size=size, mode="bilinear").softmax(1)
            )
        mean = torch.stack(seen).mean(0)[0]
        assert answers[index].mask.shape == size
        assert torch.allclose(answers[index].confidence, mean.amax(0), atol=1e-5)
        assert (answers[index].mask == mean.argmax(0)).float().mean() > 0.99


@pytest.mark.parametrize("size", [(40, 50), (16, 16), (9, 70), (41, 16)])
def test_windows_are_averaged_as_written_down(size) -> None:
    network, image = Blur(), torch.randn(1, 3, *size)
    sliding = SlidingWindows(SINGLE_SCALE, window=16, stride=7, batch=3)
    (answer,) = sliding(network, image, [size])

    total, weights = torch.zeros(3, *size), torch.zeros(size)
    for top in {*range(0, max(size[0] - 16, 0), 7), max(size[0] - 16, 0)}:
        for left in {*range(0, max(size[1] - 16, 0), 7), max(size[1] - 16, 0)}:
            place = (slice(top, top + 16), slice(left, left + 16))
            window = image[:, :, place[0], place[1]]
            weight = weigh_window(tuple(window.shape[-2:]), image)
            total[:, place[0], place[1]] += network(window).softmax(1)[0] * weight
            weights[place] += weight
    expected = total / weights
    assert torch.allclose(answer.confidence, expected.amax(0), atol=1e-5)
    assert (answer.mask == expected.argmax(0)).float().mean() > 0.99


def test_a_network_of_one_pixel_sees_the_same_in_windows() -> None:
    network, image = Blur(1), torch.randn(1, 3, 45, 33)
    whole, windows = (
        way(network, image, [(45, 33)])[0]
        for way in (SINGLE_SCALE, SlidingWindows(SINGLE_SCALE, 8, 5, 4))
    )
    assert torch.allclose(whole.confidence, windows.confidence, atol=1e-5)


class PeakMemory(TorchDispatchMode):
    """Count the bytes, and their peak, of all tensors alive that were made under this mode.

    A tensor that is given does not count.
    """

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.known = {given.untyped_storage()._cdata}
        self.alive = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.known:
                self.watch(tensor.untyped_storage())
        return made

    def watch(self, storage: torch.UntypedStorage) -> None:
        self.known.add(storage._cdata)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def measure_peak(way, height: int) -> int:
    network, image = Blur(), torch.randn(1, 3, height, 64)
    with PeakMemory(image) as memory:
        way(network, image, [(height, 64)])
    return memory.peak - 64 * height * (1 + 4)  # mask and confidence are the result


def test_the_memory_of_windows_does_not_grow_with_the_image() -> None:
    sliding = SlidingWindows(SINGLE_SCALE, window=32, stride=24, batch=2)
    small, large = measure_peak(sliding, 256), measure_peak(sliding, 4096)
    assert large <= 1.05 * small
    assert measure_peak(SINGLE_SCALE, 4096) > 10 * measure_peak(
        SINGLE_SCALE, 256
    )  # the measure sees what grows


def test_resized_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at their own size"):
        SlidingWindows(SINGLE_SCALE, 8, 5, 4)(Blur(), torch.randn(1, 3, 20, 20), [(21, 20)])
    with pytest.raises(ValueError, match="stride is 9"):
        SlidingWindows(SINGLE_SCALE, 8, 9, 4)(Blur(), torch.randn(1, 3, 20, 20), [(20, 20)])


def refine_slowly(scores: np.ndarray, image: np.ndarray, refine: PixelAdaptive) -> np.ndarray:
    """The formula, pixel by pixel."""
    _, height, width = scores.shape
    steps = [
        (d * y, d * x)
        for d in refine.distances
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
        if (y, x) != (0, 0)
    ]
    for _ in range(refine.steps):
        refined = np.zeros_like(scores)
        for row in range(height):
            for column in range(width):
                places = [
                    (min(max(row + y, 0), height - 1), min(max(column + x, 0), width - 1))
                    for y, x in steps
                ]
                colours = np.array([image[place] for place in places], float)
                own = image[row, column].astype(float)
                spread = np.std([own, *colours], axis=0, ddof=1) + 1e-8
                weights = np.exp(-refine.sharpness * np.abs((colours - own) / spread).mean(axis=1))
                weights /= weights.sum()
                refined[:, row, column] = sum(
                    w * scores[:, y, x] for w, (y, x) in zip(weights, places, strict=True)
                )
        scores = refined
    return scores


def test_pixel_adaptive_refinement_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    image, scores = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8), rng.random((3, 7, 9))
    refine = PixelAdaptive(distances=(1, 3), sharpness=4.0, steps=3)
    found = refine(torch.from_numpy(scores), torch.from_numpy(image)).numpy()
    assert np.abs(found - refine_slowly(scores, image, refine)).max() < 1e-6


def test_pixel_adaptive_refinement_finds_the_edge() -> None:
    image = torch.full((32, 32, 3), 40, dtype=torch.uint8)
    image[:, 15:] = 200
    scores = torch.rand(2, 32, 32) * 0.2
    scores[0, :, :12] += 1  # the classes meet three pixels beside the edge
    scores[1, :, 12:] += 1
    refined = PixelAdaptive((1, 2, 4), 10.0, 20)(scores / scores.sum(0), image)
    assert (
        (refined.argmax(0)[:, 12:15] == 0).float().mean()
        > 0.9
        > (scores.argmax(0)[:, 12:15] == 0).float().mean()
    )
    with pytest.raises(ValueError, match="refinement needs the image"):
        PixelAdaptive((1,), 10.0, 1)(scores, None)


CRF = {"steps": 5, "smooth_deviation": 3.0, "smooth_weight": 3.0}
CRF |= {"alike_deviation": 20.0, "colour_deviation": 13.0, "alike_weight": 10.0}
HAS_CRF = importlib.util.find_spec("pydensecrf") is not None


@pytest.mark.skipif(HAS_CRF, reason="pydensecrf is installed")
def test_a_missing_crf_is_explained() -> None:
    with pytest.raises(ModuleNotFoundError, match="pip install pydensecrf2"):
        DenseCrf(**CRF)


@pytest.mark.skipif(not HAS_CRF, reason="pydensecrf is not installed")
def test_the_crf_finds_the_edge() -> None:
    image = torch.full((32, 32, 3), 40, dtype=torch.uint8)
    image[:, 15:] = 200
    scores = torch.full((2, 32, 32), 0.4)
    scores[0, :, :12], scores[1, :, 12:] = 0.6, 0.6
    refined = DenseCrf(**CRF)(scores, image)
    assert (refined.argmax(0) == torch.arange(32).ge(15)).all()


@pytest.mark.parametrize("size", [(40, 60), (13, 31), (7, 90)])
def test_large_images_are_answered_a_few_rows_at_a_time(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = Blur(), torch.randn(2, 3, 20, 30)
    look = WholeImages((1.0, 0.5), True, keep_maps)
    whole = look(network, images, [size, size])
    monkeypatch.setattr(inference_file, "HELD_NUMBERS", 3 * 4 * size[1])
    shapes = []
    resize = inference_file.resize_rows
    monkeypatch.setattr(
        inference_file, "resize_rows", lambda *a: shapes.append(len(a[1])) or resize(*a)
    )
    for answer, expected in zip(look(network, images, [size, size]), whole, strict=True):
        torch.testing.assert_close(answer.confidence, expected.confidence)
        assert (answer.mask == expected.mask).double().mean() > 0.999
    assert max(shapes) == 4

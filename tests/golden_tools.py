"""Read the golden vectors under `tests/golden` and compare with them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

FOLDER = Path(__file__).parent / "golden"
FLOAT32_TOLERANCE = 1e-5
FLOAT64_TOLERANCE = 1e-8


@cache
def load_spreads() -> dict[str, dict[str, dict[str, float]]]:
    """Load how far the reference's fp32 outputs lie from its fp64 outputs, per file and array."""
    return json.loads((FOLDER / "fp32_vs_fp64.json").read_text())


def load_case(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load arrays and description of one case, e.g. `case1_clip/A_native_adapt1`."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    description = FOLDER / f"{name}.json"
    return arrays, json.loads(description.read_text()) if description.exists() else {}


def find_tolerance(actual: np.ndarray, expected: np.ndarray, what: str) -> float:
    """Return the tolerance relative to the largest expected value.

    It is that of fp64, or of fp32 widened by the reference's spread.
    """
    if actual.dtype == np.float64 and expected.dtype == np.float64:
        return FLOAT64_TOLERANCE
    case, _, array = what.partition(":")
    spread = load_spreads().get(f"{case}.npz", {}).get(array.removesuffix("_f64"), {})
    return max(FLOAT32_TOLERANCE, 3 * spread.get("rel_to_max", 0.0))


def measure_deviation(actual: ArrayLike, expected: ArrayLike) -> float:
    """Return the largest difference, relative to the largest expected value unless that is 0."""
    left, right = as_array(actual).astype(np.float64), as_array(expected).astype(np.float64)
    assert left.shape == right.shape, f"shape {left.shape}, expected {right.shape}"
    np.testing.assert_array_equal(np.isnan(left), np.isnan(right))
    difference, right = np.nan_to_num(np.abs(left - right)), np.nan_to_num(right)
    if difference.size == 0:
        return 0.0
    return float(difference.max() / (np.abs(right).max() or 1.0))


def assert_close(actual: ArrayLike, expected: ArrayLike, what: str) -> None:
    """Assert that floats agree within the golden tolerance and that integers are identical.

    `what` names the array as `<case>:<array>`, e.g. `case1_clip/A_native_adapt1:img_emb`, so that
    the reference's own spread is found; any other words serve as the message alone.
    """
    left, right = as_array(actual), as_array(expected)
    if right.dtype.kind in "iub":
        np.testing.assert_array_equal(left, right, err_msg=what)
        return
    deviation, tolerance = measure_deviation(left, right), find_tolerance(left, right, what)
    assert deviation <= tolerance, (
        f"{what}: off by {deviation:.3g} of the largest value, allowed {tolerance:.3g}"
    )


def as_array(values: Any) -> np.ndarray:
    """Turn a tensor, whatever its type, device and graph, or an array into a numpy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.dtype.is_floating_point and values.element_size() < 4:
            values = values.float()
        values = values.numpy()
    return np.asarray(values)

"""Measure a comparison: times of interleaved calls, how far the results lie apart, peak memory of a fresh process."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import cv2
import torch
from torch import Tensor

from benchmarks.inputs import Setting
from benchmarks.parts import PARTS, Comparison, Results

LONG = 15.0  # seconds: a call this long needs no second one
MOST = 25  # calls of each side


@dataclass(frozen=True)
class Row:
    """What was measured of one part; times in seconds, peaks in bytes above what the process held before."""

    comparison: Comparison
    ours: float
    plain: float
    speed: float  # median of plain / ours over the rounds
    bare: float | None
    share: float | None  # median of ours / bare
    deviation: float
    ours_peak: int | None
    plain_peak: int | None


def measure_part(name: str, setting: Setting, threads: int, seconds: float) -> Row:
    """Time a part for about `seconds`, compare its results, and measure its peaks."""
    comparison = PARTS[name](setting)
    times, results = time_sides(comparison, setting.device, seconds)
    peaks: Mapping[str, int] = {}
    if comparison.memory is not None:
        peaks = {side: measure_peak(name, side, setting, threads) for side in ("ours", "plain")}
    return Row(
        comparison,
        ours=median(times["ours"]),
        plain=median(times["plain"]),
        speed=compare_times(times["plain"], times["ours"]),
        bare=median(times["bare"]) if "bare" in times else None,
        share=compare_times(times["ours"], times["bare"]) if "bare" in times else None,
        deviation=find_deviation(results["ours"], results["plain"]),
        ours_peak=peaks.get("ours"),
        plain_peak=peaks.get("plain"),
    )


def time_sides(
    comparison: Comparison, device: torch.device, seconds: float
) -> tuple[dict[str, list[float]], dict[str, Results]]:
    """Call the sides in turn, so that what else the machine does meets all of them; return times and results.

    The first calls warm up and do not count, unless a side has no other.
    """
    sides = {"ours": comparison.ours, "bare": comparison.bare, "plain": comparison.plain}
    present = {name: side for name, side in sides.items() if side is not None}
    times: dict[str, list[float]] = {name: [] for name in present}
    results: dict[str, Results] = {}
    started = time.perf_counter()
    for turn in range(MOST):
        for name, side in present.items():
            if turn == 0 or times[name][0] < LONG:
                spent, results[name] = time_call(side, device)
                times[name].append(spent)
        if turn >= 3 and time.perf_counter() - started > seconds:
            break
    return {name: spent[1:] or spent for name, spent in times.items()}, results


def time_call(side: Callable[[], Results], device: torch.device) -> tuple[float, Results]:
    """Time one call, to the end of its work on the device."""
    started = time.perf_counter()
    result = side()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def compare_times(slow: list[float], fast: list[float]) -> float:
    """Return the median ratio of calls side by side, or the ratio of the medians where one side ran once."""
    if len(slow) != len(fast):
        return median(slow) / median(fast)
    return median(s / f for s, f in zip(slow, fast, strict=True))


def find_deviation(ours: Results, plain: Results) -> float:
    """Return the largest relative deviation; of label maps, the part of the pixels that differ."""
    return max(compare_tensors(ours[name], plain[name]) for name in ours)


def compare_tensors(ours: Tensor, plain: Tensor) -> float:
    """Compare numbers by their largest difference and value, labels by how many differ."""
    if not ours.is_floating_point():
        return (ours.cpu() != plain.cpu()).double().mean().item()
    return ((ours - plain).abs().max() / plain.abs().max().clamp_min(1e-30)).item()


def measure_peak(name: str, side: str, setting: Setting, threads: int) -> int:
    """Measure the peak memory of one call in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(call_once, name, side, setting, threads).result()


def call_once(name: str, side: str, setting: Setting, threads: int) -> int:
    """Call one side of a part; return by how many bytes the peak of this process grew."""
    prepare_process(threads)
    call = getattr(PARTS[name](setting), side)
    before = read_peak(setting.device)
    call()
    return read_peak(setting.device) - before


def prepare_process(threads: int) -> None:
    """Set the number of threads of everything that computes."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def read_peak(device: torch.device) -> int:
    """Return the peak memory so far, of the device or of this process, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

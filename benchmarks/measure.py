"""Measure a comparison: interleaved times, differences of results, peak memory."""

from __future__ import annotations

import ctypes
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.comparison import Comparison, Results, Side
from benchmarks.counts import Flops
from benchmarks.inputs import Setting
from benchmarks.parts import PARTS
from callbacks.training_signals import measure_peak

ROOT = Path(__file__).parents[1]

LONG = 15.0  # seconds: a call this long needs no second one
LEAST, MOST = 2, 200  # calls of each side, where they are shorter

Clock = Callable[[], float]


@dataclass(frozen=True)
class Call:
    """What one call of a side gave; the peak is in bytes above what its process held before."""

    seconds: float
    peak: int
    results: Results


@dataclass(frozen=True)
class Row:
    """What was measured of one part; times in seconds, peaks in bytes."""

    comparison: Comparison
    ours: float
    plain: float
    speed: float  # median of plain / ours over the rounds
    bare: float | None
    per_bare: float | None  # median of ours / bare
    deviation: float
    ours_peak: int | None
    plain_peak: int | None
    flops: int  # of ours
    share: float  # of the rate of a large product, that ours reaches


def measure_part(name: str, setting: Setting, seconds: float, rate: float) -> Row:
    """Time a part for about `seconds`, compare its results, measure peaks where it has an aim.

    rate: operations per second of a large product on this device.
    """
    comparison = PARTS[name](setting)
    sides: dict[str, Any] = {
        "ours": comparison.ours,
        "bare": comparison.bare,
        "plain": comparison.plain,
    }
    alone = {
        side: call_alone(name, side, setting, sides[side])
        for side in ("ours", "plain")
        if comparison.memory is not None
    }
    known = {side: call for side, call in alone.items() if call.seconds > LONG}
    times, results = time_sides(
        {side: call for side, call in sides.items() if call is not None and side not in known},
        setting,
        seconds,
    )
    times |= {side: [call.seconds] for side, call in known.items()}
    results |= {side: call.results for side, call in known.items()}
    with Flops() as counted:
        comparison.ours()
    ours = median(times["ours"])
    return Row(
        comparison,
        ours=ours,
        plain=median(times["plain"]),
        speed=compare_times(times["plain"], times["ours"]),
        bare=median(times["bare"]) if "bare" in times else None,
        per_bare=compare_times(times["ours"], times["bare"]) if "bare" in times else None,
        deviation=find_deviation(results["ours"], results["plain"]),
        ours_peak=alone["ours"].peak if alone else None,
        plain_peak=alone["plain"].peak if alone else None,
        flops=counted.total,
        share=counted.total / ours / rate,
    )


def time_product(setting: Setting) -> float:
    """Return the operations per second of a large product in float32, the best of a few."""
    side = 8192 if setting.device.type == "cuda" else 1024
    factor = torch.ones(side, side, device=setting.device)
    best = min(time_call(lambda: {"product": factor @ factor}, setting)[0] for _ in range(5))
    return 2 * side**3 / best


def time_sides(
    sides: Mapping[str, Side], setting: Setting, seconds: float
) -> tuple[dict[str, list[float]], dict[str, Results]]:
    """Call the sides in turn and return times and results; all meet what else the machine does.

    The first calls warm up and do not count, unless a side has no other.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Results] = {}
    started = time.perf_counter()
    for turn in range(MOST):
        for name, side in sides.items():
            if turn == 0 or times[name][0] < LONG:
                spent, results[name] = time_call(side, setting)
                times[name].append(spent)
        if turn + 1 >= LEAST and time.perf_counter() - started > seconds:
            break
    return {name: spent[1:] or spent for name, spent in times.items()}, results


def time_call(side: Side, setting: Setting) -> tuple[float, Results]:
    """Time one call, to the end of its work on the device."""
    clock = choose_clock(setting)
    started = clock()
    result = side()
    if setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)
    return clock() - started, result


def choose_clock(setting: Setting) -> Clock:
    """Choose the clock: one thread counts what it computes, not how long others keep it waiting."""
    alone = setting.device.type == "cpu" and setting.threads == 1
    return time.process_time if alone else time.perf_counter


def compare_times(slow: list[float], fast: list[float]) -> float:
    """Return the median ratio of calls side by side, of the medians where one side ran once."""
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
    ours, plain = ours.cpu(), plain.cpu()
    return ((ours - plain).abs().max() / plain.abs().max().clamp_min(1e-30)).item()


def call_alone(name: str, side: str, setting: Setting, call: Side) -> Call:
    """Call one side of a part once; in a fresh process, unless a device counts for itself."""
    if setting.device.type == "cuda":
        before = reset_peak(setting.device)
        seconds, results = time_call(call, setting)
        return Call(seconds, read_peak(setting.device) - before, results)
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    with ProcessPoolExecutor(1, context) as pool:
        seconds, peak, arrays = pool.submit(call_once, name, side, setting).result()
    return Call(seconds, peak, {key: torch.from_numpy(array) for key, array in arrays.items()})


def call_once(name: str, side: str, setting: Setting) -> tuple[float, int, dict[str, np.ndarray]]:
    """Call one side of a part; return time, growth of this process's peak in bytes, and results."""
    logging.disable(logging.WARNING)
    set_threads(setting.threads)
    call = getattr(PARTS[name](setting), side)
    before = reset_peak(setting.device)
    seconds, results = time_call(call, setting)
    peak = read_peak(setting.device) - before
    return seconds, peak, {key: np.asarray(result.cpu()) for key, result in results.items()}


def set_threads(threads: int) -> None:
    """Set the number of threads of everything that computes."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def reset_peak(device: torch.device) -> int:
    """Forget the peak of what was done so far, and return what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":  # elsewhere, growth is counted from the peak so far
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # what the C library keeps to hand out again would hide growth
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return read_peak(device)


def read_peak(device: torch.device) -> int:
    """Return the peak memory so far, of the device or of this process, in bytes."""
    return round(measure_peak(device) * 2**30)


def run_alone(module: str, *words: str) -> dict[str, float]:
    """Run a module in a fresh process, so that its peak is its own; its last line is JSON."""
    command = [sys.executable, "-m", module, *words]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found

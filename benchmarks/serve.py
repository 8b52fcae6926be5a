"""What a server adds to `Segmenter.predict`, and what it holds: `python -m benchmarks.serve`.

The server is `python infer.py task=serve` in a process of its own, with random weights. Clients are
threads that each send one photo after the other. Before and after each row the same photos go
through a plain loop, whose images per second the row is divided by: other work on the machine then
slows both.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.loader import draw_photos
from benchmarks.measure import set_threads
from fmawsss.files.writing import write_tensors
from fmawsss.networks.builders import NETWORKS, prepare_part
from fmawsss.networks.checkpoints import describe_classes, describe_network
from fmawsss.networks.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
CLASSES = [f"class {number}" for number in range(1, 21)]
CLIPS: dict[str, dict[str, Any]] = {
    "tiny": {"_target_": "fmawsss.tiny.models.tiny_clip"},
    "vit_b16": {"_target_": "fmawsss.clip.weights.load_open_clip", "name": "ViT-B-16-quickgelu"},
}
PATCHES = {"tiny": 8, "vit_b16": 16}
LARGE = (4000, 3000)  # a photo of 12 megapixels
BUSY = 503
HEADER = "| photos | clients | images / s | of the plain loop's | p50, s | p95, s | peak, GB |"
PHOTOS = 8


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds of each answer, how often they had to ask again, and all in all."""

    seconds: list[float]
    again: int
    whole: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return len(self.seconds) / self.whole


def main(words: Sequence[str] | None = None) -> None:
    """Measure a server at several numbers of clients, and print a Markdown table."""
    options = read_options(words)
    set_threads(1)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        checkpoint = save_checkpoint(place / "network.ckpt", options.clip, options.longest)
        draw_photos(place, PHOTOS)
        small = [path.read_bytes() for path in sorted((place / "photos").glob("*.jpg"))]
        large = enlarge(place / "photos/0.jpg", place / "large.jpg", options.large)
        segmenter = Segmenter.from_checkpoint(checkpoint)
        show(HEADER, "|---" * HEADER.count("| ") + "|")
        with serve(checkpoint, place, options.clients[-1]) as (port, pid):
            show(f"held after the start: {read_kilobytes(pid, 'VmRSS') / 2**20:.2f} GB")
            for name, photos, count in (
                ("500 x 375", small, options.images),
                (f"{options.large[0]} x {options.large[1]}", [large], options.large_images),
            ):
                for clients in options.clients if count else ():
                    forget_peak(pid)
                    before = time_loop(segmenter, photos, place, options.loop)
                    load = ask_many(port, photos, clients, max(count, clients))
                    after = time_loop(segmenter, photos, place, options.loop)
                    show(describe(name, clients, load, (before + after) / 2, pid))


def read_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--clip", choices=list(CLIPS), default="vit_b16")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--longest", type=int, default=1024, help="pixels that the network sees")
    parser.add_argument("--images", type=int, default=48, help="in each row of small photos, or 0")
    parser.add_argument("--large-images", type=int, default=16, help="in each row of large ones")
    parser.add_argument("--loop", type=int, default=6, help="images of each plain loop")
    parser.add_argument("--large", type=int, nargs=2, default=LARGE, help="width and height")
    return parser.parse_args(words)


def save_checkpoint(path: Path, clip: str, longest: int) -> Path:
    """Save a network of random weights: the image tower of a CLIP with a decoder.

    longest: of an image as the network sees it, in pixels.
    """
    node = {"_target_": "fmawsss.networks.towers.TowerNetwork", "clip": CLIPS[clip], "width": 128}
    resize: dict[str, Any] = {"_target_": "fmawsss.resizing.ShrinkToPatch"}
    resize |= {"patch": PATCHES[clip], "longest": longest}
    said = describe_network(node, resize, [0.5] * 3, [0.25] * 3)
    torch.manual_seed(0)
    network = prepare_part(node, NETWORKS.get, "network")(classes=len(CLASSES) + 1)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    write_tensors(path, {**describe_classes(CLASSES), "carried": said, "state_dict": state})
    return path


def enlarge(path: Path, large: Path, size: Sequence[int]) -> bytes:
    """Enlarge a photo to that of a camera."""
    with Image.open(path) as photo:
        picture = np.asarray(photo.resize(tuple(size), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(0).normal(0, 4, (*picture.shape[:2], 1))
    Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(large, quality=90)
    return large.read_bytes()


@contextmanager
def serve(checkpoint: Path, folder: Path, waiting: int) -> Iterator[tuple[int, int]]:
    """Serve a checkpoint in a process of its own; give its port and its number."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["task=serve", f"ckpt={checkpoint}", f"job.port={port}", "job.limits.seconds=3600"]
    words += [f"job.limits.waiting={max(waiting, 2)}", f"paths.outputs={folder}/outputs"]
    log = folder / "log"
    with log.open("w") as file:
        command = [sys.executable, str(ROOT / "infer.py"), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
    try:
        while "serving at" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def time_loop(segmenter: Segmenter, photos: Sequence[bytes], folder: Path, count: int) -> float:
    """Return how many images a plain loop over files predicts in a second."""
    paths = [folder / f"loop_{number}" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(photo)
    started = time.perf_counter()
    for number in range(count):
        segmenter.predict([paths[number % len(paths)]])
    return count / (time.perf_counter() - started)


def ask_many(port: int, photos: Sequence[bytes], clients: int, count: int) -> Load:
    """Have clients send `count` photos, each one after the other."""
    shares = [range(client, count, clients) for client in range(clients)]
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda share: ask(port, photos, share), shares))
    whole = time.perf_counter() - started
    return Load(
        seconds=[second for seconds, _ in found for second in seconds],
        again=sum(again for _, again in found),
        whole=whole,
    )


def ask(port: int, photos: Sequence[bytes], share: Sequence[int]) -> tuple[list[float], int]:
    """Send photos over one connection; ask again where the server is busy."""
    connection, seconds, again = HTTPConnection("127.0.0.1", port, timeout=3600), [], 0
    for number in share:
        started = time.perf_counter()
        while True:
            connection.request("POST", "/predict", body=photos[number % len(photos)])
            answer = connection.getresponse()
            answer.read()
            if answer.status != BUSY:
                break
            again += 1
            time.sleep(float(answer.headers["Retry-After"]))
        assert answer.status == 200, answer.status
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds, again


def describe(name: str, clients: int, load: Load, plain: float, pid: int) -> str:
    """Write a row of the table."""
    half, most = np.quantile(load.seconds, [0.5, 0.95])
    peak = read_kilobytes(pid, "VmHWM") / 2**20
    told = f" ({load.again} times busy)" if load.again else ""
    return (
        f"| {name} | {clients}{told} | {load.rate:.2f} | {load.rate / plain:.2f} | {half:.2f} | "
        f"{most:.2f} | {peak:.2f} |"
    )


def forget_peak(pid: int) -> None:
    """Forget the largest memory of a process so far (Linux)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_kilobytes(pid: int, key: str) -> int:
    """Read what Linux says of the memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key)))


def show(*lines: str) -> None:
    """Print lines at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

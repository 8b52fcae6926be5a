"""What a region memory costs at the sizes of VOC and COCO: `python -m benchmarks.memory`.

    python -m benchmarks.memory --like coco --images 1000 10000 82783
    python -m benchmarks.memory --regions outputs/shapes/regions/coarse

Keys are random, as long as those of ViT-B/16, on disk in half precision; images, superpixels and
labels are as many as those of the data set. Some images are explained (`--measured`), and what all
would take is added up, in seconds of one thread. The peak is what is held beside mapped files. With
`--regions` the keys are those of a folder, and the index is compared with the exact search.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import set_threads
from fmawsss.files.regions import HALF, map_file, read_memory, read_regions, write_regions
from fmawsss.memory import ImageRegions, MemoryReader, Neighbours, RegionMemory
from fmawsss.memory_index import RegionIndex, build_index
from fmawsss.memory_search import Question, find_together

WIDTH = 768  # of the activations of ViT-B/16, the keys
COLUMNS = (
    "like", "images", "superpixels", "keys on disk", "plain", "together", "index",
    "images that ask it", "reading", "building the index", "an image", "all images", "peak",
)  # fmt: skip


@dataclass(frozen=True)
class Like:
    """A data set to be like: how many images, superpixels and classes, and how often each shows."""

    images: int
    superpixels: int
    shares: Sequence[float]


# person, and the others; 1.5 and 2.9 classes an image
LIKE = {
    "voc": Like(10_582, 500_000, (0.4, *[0.055] * 19)),
    "coco": Like(82_783, 4_000_000, (0.54, *(0.33 * rank**-0.72 for rank in range(1, 80)))),
}


def main(words: Sequence[str] | None = None) -> None:
    """Print a Markdown table, a row for each data set and number of images."""
    options = read_options(words)
    set_threads(options.threads)
    if options.regions:
        return compare_index(options)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)  # noqa: T201
    for like in options.like:
        for images in options.images or (1000, LIKE[like].images):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                print(measure(like, images, Path(folder), options), flush=True)  # noqa: T201


def read_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--like", nargs="*", choices=LIKE, default=list(LIKE))
    parser.add_argument("--images", type=int, nargs="*", help="1000 and all by default")
    parser.add_argument("--measured", type=int, default=256, help="images that are explained")
    parser.add_argument("--width", type=int, default=WIDTH, help="of keys")
    parser.add_argument("--block", type=int, default=8192, help="memory.block")
    parser.add_argument("--exact-up-to", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--regions", type=Path, help="a folder of regions")
    return parser.parse_args(words)


def measure(like: str, images: int, folder: Path, options: argparse.Namespace) -> str:
    """Build a memory, and write what its images cost."""
    memory = draw_memory(LIKE[like], images, folder, options.width)
    chosen = np.linspace(0, images - 1, min(options.measured, images)).astype(int).tolist()
    questions = [ask(memory, number, options.device) for number in chosen]
    large = memory.count_compared(memory.labels) > options.exact_up_to
    near = [question for question in questions if not large[question.image]]
    far = [question for question in questions if large[question.image]]

    # each way on the images that take it
    few = near[:: max(1, len(near) // 16)]
    plain = time_each(few, memory, lambda asked: find_plainly(asked, memory))
    with watch_peak() as peak:
        index, build = time_call(lambda: build_index(memory, options.block) if far else None)
        together = time_each(near, memory, lambda asked: search(asked, memory, options.block))
        approximate = time_each(far, memory, lambda asked: ask_index(asked, index))
    read = time_reading(memory, chosen[:64], folder)

    # what all images take
    share = large.double().mean().item()
    each = (1 - share) * together + share * approximate + read + build / images
    cells = [
        like,
        images,
        len(memory.keys),
        f"{memory.keys.nbytes / 1e9:.2f} GB",
        f"{1000 * plain:.1f} ms",
        f"{1000 * together:.1f} ms",
        f"{1000 * approximate:.1f} ms" if far else "",
        f"{100 * share:.0f} %",
        f"{1000 * read:.1f} ms",
        f"{build:.0f} s" if far else "",
        f"{1000 * each:.1f} ms",
        f"{each * images / 60:.1f} min",
        f"{peak[0] / 1e9:.2f} GB",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def draw_memory(like: Like, images: int, folder: Path, width: int) -> RegionMemory:
    """Draw keys, values and labels of some images, on disk."""
    rng = np.random.default_rng(0)
    labels = rng.random((images, len(like.shares))) < like.shares
    bare = ~labels.any(axis=1)
    labels[bare, rng.integers(0, len(like.shares), bare.sum())] = True
    mean = like.superpixels / like.images
    counts = rng.integers(round(mean / 2), round(mean * 3 / 2) + 1, images)
    size, classes = int(counts.sum()), len(like.shares)
    with (folder / "keys").open("w+b") as keys, (folder / "values").open("w+b") as values:
        for first in range(0, size, 65536):
            rows = min(65536, size - first)
            drawn = torch.from_numpy(rng.standard_normal((rows, width), np.float32))
            keys.write(F.normalize(drawn, dim=1).numpy().astype(HALF).tobytes())
            values.write(rng.random((rows, classes + 1), np.float32).astype(HALF).tobytes())
        return RegionMemory(
            map_file(keys, (size, width)),
            map_file(values, (size, classes + 1)),
            torch.arange(images).repeat_interleave(torch.from_numpy(counts)),
            torch.from_numpy(labels),
        )


def ask(memory: RegionMemory, number: int, device: str) -> Question:
    """Ask for the neighbours of an image of the memory."""
    return Question(memory.read_keys(number).to(device), memory.labels[number], number)


def find_plainly(questions: Sequence[Question], memory: RegionMemory) -> list[Neighbours]:
    """Find the neighbours image by image, as the formula says."""
    reader = MemoryReader()
    return [reader.find(q.keys, q.labels, memory, q.image) for q in questions]


def search(questions: Sequence[Question], memory: RegionMemory, block: int) -> list[Neighbours]:
    """Find the neighbours of as many images together as a run does."""
    found: list[Neighbours] = []
    while len(found) < len(questions):
        sizes = np.cumsum([len(question.keys) for question in questions[len(found) :]])
        asked = questions[len(found) : len(found) + 1 + int((sizes < block).sum())]
        found += find_together(asked, memory, MemoryReader(), block)
    return found


def ask_index(questions: Sequence[Question], index: RegionIndex | None) -> list[Neighbours]:
    """Find the neighbours by an index."""
    assert index is not None, "images ask no index that is not there"
    return [index.find(question, MemoryReader()) for question in questions]


def time_each(
    questions: Sequence[Question],
    memory: RegionMemory,
    find: Callable[[Sequence[Question]], list[Neighbours]],
) -> float:
    """Time how long an image takes, its scores included, in seconds; 0 for no images."""
    if not questions:
        return 0.0
    reader, values = MemoryReader(), memory.values.shape[1]

    def explain() -> None:
        for question, found in zip(questions, find(questions), strict=True):
            own = question.keys.new_full((len(question.keys), values), 1 / values)
            reader.mix(own, question.labels, reader.listen(memory, found))

    return time_call(explain)[1] / len(questions)


def time_call(call: Callable[[], Any]) -> tuple[Any, float]:
    """Time a call: of one thread what it computes, not how long others keep it waiting."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    result = call()
    return result, clock() - started


def time_reading(memory: RegionMemory, numbers: Sequence[int], folder: Path) -> float:
    """Time how long the files of an image take to be read into a memory."""
    regions = folder / "regions"
    for number in numbers:
        keys, classes = memory.read_keys(number), memory.labels[number].nonzero().flatten()
        scores = torch.rand(len(classes) + 1, len(keys))
        rest = torch.zeros(20_000)  # pixels in no superpixel, a tenth of an image
        held = ImageRegions(keys, scores, classes, rest.byte(), rest)
        write_regions(regions / f"{number}.npz", held, "")
    names, classes = [str(number) for number in numbers], memory.labels.shape[1]
    read = time_call(lambda: read_memory(regions, regions, names, classes, folder))
    return read[1] / len(numbers)


def compare_index(options: argparse.Namespace) -> None:
    """Print how much of what the exact search finds an index of a folder of regions finds."""
    paths = sorted(options.regions.glob("*.npz"))
    names = [path.stem for path in paths]
    classes = 1 + max(max(read_regions(path).classes.tolist(), default=-1) for path in paths)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        memory = read_memory(options.regions, options.regions, names, classes, Path(folder))
        questions = [ask(memory, number, options.device) for number in range(len(names))]
        exact = search(questions, memory, options.block)
        found = ask_index(questions, build_index(memory, options.block))
    shared = total = 0
    for right, other in zip(exact, found, strict=True):
        for rows, near in zip(right.rows, other.rows, strict=True):
            shared += int(torch.isin(rows, near).sum())
            total += len(rows)
    print(  # noqa: T201
        f"{len(memory.keys)} superpixels in {len(names)} images: the index finds "
        f"{shared / max(total, 1):.3f} of the neighbours"
    )


@contextmanager
def watch_peak() -> Iterator[list[int]]:
    """Watch what this process holds beside files, in bytes more than at first; Linux tells."""
    first, peak, ended = read_held(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], read_held() - first)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def read_held() -> int:
    """Return what this process holds beside mapped files, in bytes; 0 where nothing tells."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()

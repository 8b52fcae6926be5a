"""Which tool wrote a file of corrections, and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stages.corrections import coco, cvat, label_studio, pictures
from stages.corrections.archives import Source
from stages.corrections.records import Found

Reader = Callable[[Source], Iterator[Found]]
HEAD = 1 << 12  # bytes
FORMATS = ("auto", "cvat", "label_studio", "coco", "png")
EXPECTED = (
    "expected what CVAT (`CVAT for images 1.1`, `Segmentation mask 1.1`), Label Studio (JSON) or "
    "a COCO tool exported, or indexed PNGs"
)


def choose_reader(source: Source, written: str) -> Reader:
    """Choose what reads a source: as its format says, or as its files look (`auto`).

    Raises:
        ValueError: for a source of another kind.
    """
    known = {
        "cvat": cvat.read_colours if source.find("labelmap.txt") else cvat.read_images,
        "label_studio": label_studio.read_tasks,
        "coco": coco.read_files,
        "png": pictures.read_pictures,
    }
    kind = find_format(source) if written == "auto" else written
    endings = {"cvat": ("labelmap.txt", ".xml"), "png": (".png",)}.get(kind, (".json",))
    if not source.find(*endings):
        raise ValueError(f"{source.path} holds no {' or '.join(endings)}: {EXPECTED}")
    return known[kind]


def find_format(source: Source) -> str:
    """Find the format of a source by the endings of its files, and how a JSON file begins."""
    if source.find("labelmap.txt", ".xml"):
        return "cvat"
    if files := source.find(".json"):
        with source.open(files[0]) as file:
            head = file.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
        return "label_studio" if head.startswith(b"[") else "coco"
    return "png"

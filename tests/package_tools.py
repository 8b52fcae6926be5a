"""Packages of superpixels, a machine that takes them, and packages that lie."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from front_door import QUICK, run

import infer
from fmawsss.files.superpixel_package import ABOUT, IMAGES, digest

SIZES = ["dataset.train_images=6", "dataset.val_images=3"]
CUT = next(word for word in QUICK if "points_per_side" in word).rpartition("=")[2]


def export(folder: Path, data: Path, outputs: Path) -> None:
    """Write the superpixels of some outputs as a package."""
    places = [f"paths.data={data}", f"paths.outputs={outputs}", f"hydra.run.dir={folder}_run"]
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, "task=export", "format=superpixels", f"job.path={folder}", *places)


class Elsewhere:
    """A machine that draws the same images, and has cut none."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.work = folder / "outputs/shapes"
        self.superpixels = self.work / "superpixels"

    def infer(self, *words: str) -> None:
        places = [f"paths.data={self.folder}/data", f"paths.outputs={self.folder}/outputs"]
        run(infer.main, self.monkeypatch, *words, *places)

    def unpack(self, package: Path | str, *words: str) -> None:
        self.infer("task=unpack", f"package={package}", *SIZES, *words)

    def list_files(self) -> dict[str, bytes]:
        """List what lies in the folder of superpixels and beside it, but locks."""
        files = sorted(self.work.glob("superpixels*")) + sorted(self.superpixels.glob("*"))
        return {file.name: file.read_bytes() for file in files if file.is_file()}


def rewrite(
    packed: Path, folder: Path, change: Callable[[str, bytes], bytes | tarfile.TarInfo],
    lines: Callable[[list[dict]], list[dict]] = lambda lines: lines,
) -> Path:  # fmt: skip
    """Write a package again whose digests are right, with other content."""
    path = folder / "superpixels.tar"
    with tarfile.open(packed / path.name) as archive:
        held = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    about, index = json.loads(held.pop(ABOUT)), held.pop(IMAGES)
    found = lines([json.loads(line) for line in index.decode().splitlines()])
    files = {}
    for line in found:
        name = f"{line['name']}.npz"
        data = change(name, held.get(name, b"other"))
        files[name] = data
        if isinstance(data, bytes):
            line.update(size=len(data), digest=digest(data))
    index = "".join(json.dumps(line) + "\n" for line in found).encode()
    about["images"] = {"count": len(found), "bytes": len(index), "digest": digest(index)}
    with tarfile.open(path, "w") as archive:
        for name, data in {ABOUT: json.dumps(about).encode(), IMAGES: index, **files}.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def keep(name: str, data: bytes) -> bytes:
    """Change nothing."""
    return data

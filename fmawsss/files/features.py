"""Features of fixed views on disk, so that a frozen encoder sees each view once.

Each array has a memory-mapped file with a row per view. Rows may be written in any order, by
several processes; a row counts once it is marked as done. The folder's name says what the features
depend on, its `features.json` what the files hold.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fmawsss.files.json_files import read_json, write_json

LABELS, SEEDS, DONE = "labels", "seeds", "done"
RECORD, FEATURES_VERSION = "features.json", 1
GIGABYTE = 1e9
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """One array of a store: type and shape of a row."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of a row."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True)
class FeatureStore:
    """`rows` views of `columns`; it travels to loader processes, which map the files themselves."""

    folder: Path
    rows: int
    columns: Mapping[str, Column]
    _maps: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": {}}

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy some rows of every array into memory, by the array's name."""
        index = torch.tensor(rows)
        return {name: self._map(name)[index] for name in self.columns}

    def write(self, rows: Sequence[int], values: Mapping[str, Tensor]) -> None:
        """Write some rows of every array, then mark them as done.

        Raises:
            ValueError: for another set of arrays or other shapes than the store's.
        """
        if set(values) != set(self.columns):
            raise ValueError(f"{self.folder} holds {sorted(self.columns)}, found {sorted(values)}")
        index = torch.tensor(rows)
        for name, value in values.items():
            if tuple(value.shape[1:]) != self.columns[name].shape:
                raise ValueError(
                    f"views of one size are needed: {name} is {tuple(value.shape[1:])}, the first "
                    f"view's was {self.columns[name].shape}; choose an augmentation with a fixed "
                    "crop, or cache=none"
                )
            self._map(name)[index] = value.to("cpu", self.columns[name].dtype)
        self._map(DONE)[index] = True

    def list_remaining(self) -> list[int]:
        """List the rows that are not done, in ascending order."""
        return (~self._map(DONE)).nonzero().flatten().tolist()

    def _map(self, name: str) -> Tensor:
        """Map the file of an array, (rows, *shape)."""
        if name not in self._maps:
            column = Column(torch.bool, ()) if name == DONE else self.columns[name]
            size = self.rows * torch.Size(column.shape).numel()
            path = self.folder / f"{name}.bin"
            mapped = torch.from_file(str(path), shared=True, size=size, dtype=column.dtype)
            self._maps[name] = mapped.view(self.rows, *column.shape)
        return self._maps[name]


def open_store(
    folder: str | Path,
    name: str,
    rows: int,
    sample: Mapping[str, Tensor],
    dtype: str,
    max_gb: float,
) -> FeatureStore:
    """Open the store `folder/name`, or make an empty one if it is not too large.

    `sample` holds one view of every array, (1, *shape); floats are kept as `dtype` (float16,
    bfloat16, float32).

    Raises:
        ValueError: when it would be larger than `max_gb`, or than the free disk, or when the
            folder holds something else.
    """
    # describe what it holds
    kept = getattr(torch, dtype)
    columns = {
        key: Column(kept if value.is_floating_point() else value.dtype, tuple(value.shape[1:]))
        for key, value in sample.items()
    }
    store = FeatureStore(Path(folder) / name, rows, columns)
    if (store.folder / RECORD).is_file():
        _check_record(store)
        return store

    _make_empty(store, max_gb * GIGABYTE)
    return store


def _make_empty(store: FeatureStore, most: float) -> None:
    """Make the folder of a store of at most so many bytes, after saying how large it will be."""
    size = store.rows * sum(column.bytes for column in store.columns.values())
    logger.info(
        "features of %d views take %.2f GB in %s", store.rows, size / GIGABYTE, store.folder
    )
    store.folder.mkdir(parents=True, exist_ok=True)
    _check_size(store, size, most)
    for path in store.folder.glob("*.bin"):  # left by a kill before the record was written
        path.unlink()
    write_json(store.folder / RECORD, _describe(store))


def _check_size(store: FeatureStore, size: int, most: float) -> None:
    """Raise ValueError for a store of more bytes than are allowed, naming what makes it smaller."""
    free = shutil.disk_usage(store.folder).free
    for limit, allowed in (("cache.max_gb", most), ("the free disk", free)):
        if size > allowed:
            raise ValueError(
                f"features of {store.rows} views would take {size / GIGABYTE:.2f} GB, more than "
                f"{limit} ({allowed / GIGABYTE:.2f} GB): lower cache.views or dataset.shots, or "
                "raise cache.max_gb"
            )


def _describe(store: FeatureStore) -> dict[str, object]:
    columns = {
        name: {"dtype": str(column.dtype).removeprefix("torch."), "shape": list(column.shape)}
        for name, column in store.columns.items()
    }
    return {"version": FEATURES_VERSION, "rows": store.rows, "columns": columns}


def _check_record(store: FeatureStore) -> None:
    """Raise ValueError when the folder holds something else than the name promises."""
    found, expected = read_json(store.folder / RECORD), _describe(store)
    if found != expected:
        raise ValueError(
            f"{store.folder / RECORD} says {found}, expected {expected}: delete the folder and run "
            "again"
        )

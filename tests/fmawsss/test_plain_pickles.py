"""Dictionaries of arrays are read as `np.save` wrote them, and nothing that they ask for is run."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmawsss.files.plain_pickles import read_pickled_arrays

VALUES = np.random.default_rng(0).random((2, 3, 4))


class Harm:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_as_they_are(protocol: int, tmp_path) -> None:
    saved = {
        "double": VALUES,
        "half": VALUES.astype("f2"),
        "columns": np.asfortranarray(VALUES),
        "big": VALUES.astype(">f4"),
        "steps": np.arange(9)[::2],
        "empty": np.zeros((0, 4), np.float32),
        "marks": VALUES > 0.5,
        np.int32(2007000032): [0, 1],
        7: np.float32(0.5),
    }
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"shape": (), "fortran_order": False, "descr": "|O"}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(np.array(saved), file, protocol)
    found = read_pickled_arrays(tmp_path / "a.npy")
    assert [*found] == [*saved]
    for key, values in saved.items():
        np.testing.assert_array_equal(found[key], values)


def test_tensors_are_read_too(tmp_path) -> None:
    tensor = torch.arange(24).view(2, 3, 4)
    np.save(tmp_path / "a.npy", {"keys": tensor, "part": tensor[:, 1:, ::2], "turned": tensor.mT})
    found = read_pickled_arrays(tmp_path / "a.npy")
    np.testing.assert_array_equal(found["keys"], tensor)
    np.testing.assert_array_equal(found["part"], tensor[:, 1:, ::2])
    np.testing.assert_array_equal(found["turned"], tensor.mT)


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"a": Harm()}, "it asks for pathlib"),
        ({"a": np.array([Harm()], object)}, "it asks for pathlib"),
        (Harm(), "it asks for pathlib"),
        ({"a": np.array(["text"])}, "type 'U4', expected numbers"),
        ({"a": {"b": VALUES}}, "dict where numbers are expected"),
        ({"a": None}, "NoneType"),
        ({(1, 2): VALUES}, "is no key"),
        ({True: VALUES}, "is no key"),
        ([VALUES], r"an array of shape \(1, 2, 3, 4\)"),
        (VALUES, "type float64"),
        ({"a": torch.zeros(2).to_sparse()}, "_rebuild_sparse_tensor"),
    ],
)
def test_anything_else_is_refused(saved: Any, told: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", saved, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"a\.npy is no dictionary of arrays.*{told}"):
        read_pickled_arrays(tmp_path / "a.npy")
    assert not Path("harmed").exists()


def test_cut_and_changed_files_are_refused_or_read(tmp_path) -> None:
    np.save(tmp_path / "a.npy", {"a": VALUES, "b": torch.zeros(3)})
    whole = (tmp_path / "a.npy").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole[: random.integers(len(whole))] if random.random() < 0.3 else whole)
        for place in random.integers(0, len(data) or 1, 3) if data else ():
            data[place] = random.integers(256)
        (tmp_path / "b.npy").write_bytes(data)
        with suppress(ValueError):  # and no other error
            read_pickled_arrays(tmp_path / "b.npy")
            continue
        refused += 1
    assert refused > 100
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "a.npy")["a"], VALUES)


def test_what_a_pickle_changes_is_its_own(tmp_path) -> None:
    # GLOBAL numpy dtype, BUILD with a state that would replace what makes it
    header = b"\x80\x02cnumpy\ndtype\n"
    attack = header + b"N}X\x04\x00\x00\x00makeNs\x86b."
    with (tmp_path / "a.npy").open("wb") as file:
        fields = {"shape": (), "fortran_order": False, "descr": "|O"}
        np.lib.format.write_array_header_1_0(file, fields)
        file.write(attack)
    with pytest.raises(ValueError, match="it holds no array"):
        read_pickled_arrays(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", {"a": VALUES})
    np.testing.assert_array_equal(read_pickled_arrays(tmp_path / "b.npy")["a"], VALUES)

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.superpixel_writer import SuperpixelWriter
from fmawsss.files.contents import (
    Changes,
    Made,
    drop_notes,
    find_changes,
    note_files,
    read_notes,
)
from fmawsss.files.products import Product, ProductMismatch, require_unchanged


@pytest.fixture
def product(tmp_path):
    folder = tmp_path / "seeds"
    (folder / "sub").mkdir(parents=True)
    for value, name in enumerate(("a", "b.v2", "sub/c")):
        Image.fromarray(np.full((9, 9), value, np.uint8)).save(folder / f"{name}.png")
    note_files(folder, {"a", "b.v2", "sub/c"})
    return folder


def test_whole_files_are_unchanged(product):
    assert sorted(read_notes(product)) == ["a.png", "b.v2.png", "sub/c.png"]
    assert find_changes(product, unknown=True) == Changes()


def test_each_kind_of_change_is_told(product):
    (product / "a.png").unlink()
    (product / "b.v2.png").write_bytes(b"")
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(product / "sub/c.png")
    (product / "new.png").write_bytes(b"cut")
    changes = find_changes(product, unknown=True)
    assert changes.lost == ["a.png"]
    assert sorted(changes.damaged) == ["b.v2.png", "new.png"]
    assert changes.edited == ["sub/c.png"]
    assert "new.png" not in find_changes(product, unknown=False).damaged


def test_a_copy_is_read_once(product, monkeypatch):
    os.utime(product / "a.png", ns=(1, 1))
    assert find_changes(product, unknown=True) == Changes()
    monkeypatch.setattr("fmawsss.files.contents.digest_file", None)
    assert find_changes(product, unknown=True) == Changes()


def test_a_product_within_another_has_notes_of_its_own(product):
    shutil.copytree(product / "sub", product / "other")
    (product / "other.json").write_text("{}")
    (product / "other/c.png").write_bytes(b"")
    assert find_changes(product, unknown=True) == Changes()


def test_cut_notes_say_nothing_of_their_files(product):
    notes = product.with_name("seeds.files.jsonl")
    notes.write_bytes(notes.read_bytes()[:-20] + b'\n["a"]\n5\n')
    assert sorted(read_notes(product)) == ["a.png", "b.v2.png"]


def test_what_is_made_anew_is_forgotten(product):
    drop_notes(product, {"a"})
    assert sorted(read_notes(product)) == ["b.v2.png", "sub/c.png"]


def test_a_repair_removes_what_is_damaged(product, caplog):
    (product / "a.png").write_bytes(b"")
    with pytest.raises(ProductMismatch, match=r"1 files.*cut off: a\.png.*command that made it"):
        require_unchanged(product)
    with caplog.at_level(logging.WARNING):
        Product(product, {}, {}).repair()
    assert "1 empty or cut off: a.png" in caplog.text
    assert not (product / "a.png").exists()
    assert sorted(read_notes(product)) == ["b.v2.png", "sub/c.png"]


def test_a_single_file_is_a_product(tmp_path):
    path = tmp_path / "cls.ckpt"
    np.savez(path.with_suffix(".npz"), np.zeros(3))
    path.with_suffix(".npz").rename(path)
    note_files(path, ())
    require_unchanged(path)
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ProductMismatch, match=r"cls\.ckpt"):
        require_unchanged(path)


def test_what_was_made_is_listed_once_and_what_appears_later_is_found(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for name in ("a.png", "cat/b.v2.png", "cat/c.npz"):
        (tmp_path / name).write_text("x")
    made = Made(tmp_path, ".png")
    assert {name in made for name in ("a", "cat/b.v2")} == {True}
    assert "cat/c" not in made
    (tmp_path / "d.png").write_text("x")
    assert "d" in made
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    assert "broken" not in Made(tmp_path, ".png")
    assert "a" not in Made(tmp_path / "nowhere", ".png")


def test_noted_superpixels_are_not_read_to_see_whether_they_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "superpixels"
    folder.mkdir()
    (folder / "a.npz").write_text("no archive")
    assert not SuperpixelWriter(folder).has("a")
    note_files(folder, {"a"})
    assert SuperpixelWriter(folder).has("a")
    (folder / "a.npz").unlink()
    assert not SuperpixelWriter(folder).has("a")

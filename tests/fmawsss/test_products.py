from __future__ import annotations

import pytest

from fmawsss.files.products import Product, ProductMismatch, read_fingerprint, read_record


def make_product(tmp_path, **settings):
    return Product(
        tmp_path / "seeds", {"power": 1, "softmax": {"name": "present"}, **settings}, {"cls": "abc"}
    )


def make_file(folder):
    folder.mkdir()
    (folder / "a.png").touch()


def test_an_attempt_that_made_nothing_stands_in_no_way(tmp_path):
    make_product(tmp_path).open(overwrite=False)
    product = make_product(tmp_path, power=2)
    product.open(overwrite=False)
    for inputs in ("x", "y"):
        product.start("train", inputs)
    product.finish("train")
    assert product.is_complete("train")


def test_checkpoints_beside_an_unfinished_product_are_of_its_settings(tmp_path):
    product, steps = make_product(tmp_path), tmp_path / "steps"
    product.open(overwrite=False, beside=[steps])
    product.start("train", "x", beside=[steps])
    make_file(steps)
    with pytest.raises(ProductMismatch, match="power"):
        make_product(tmp_path, power=2).open(overwrite=False, beside=[steps])
    with pytest.raises(ProductMismatch, match="other images"):
        product.start("train", "y", beside=[steps])


def test_what_is_forgotten_leaves_the_other_parts(tmp_path):
    product = make_product(tmp_path)
    product.open(overwrite=False)
    for part in ("train", "val"):
        product.start(part, "x")
    product.finish("train")
    product.forget("val")
    assert list(read_record(tmp_path / "seeds")["parts"]) == ["train"]
    product.forget("train")
    assert read_record(tmp_path / "seeds") is None


def test_a_product_is_opened_started_and_finished(tmp_path):
    product = make_product(tmp_path)
    product.open(overwrite=False)
    product.start("train", "x")
    assert not product.is_complete("train")
    product.finish("train")
    assert product.is_complete("train")
    assert not product.is_complete("val")
    assert not make_product(tmp_path, power=2).is_complete("train")


def test_parts_are_kept_side_by_side(tmp_path):
    product = make_product(tmp_path)
    product.open(overwrite=False)
    for part in ("train", "val"):
        product.start(part, part)
        product.finish(part)
    assert product.is_complete("train")
    assert product.is_complete("val")


def test_opening_again_goes_on(tmp_path):
    for _ in range(2):
        product = make_product(tmp_path)
        product.open(overwrite=False)
        product.start("train", "x")
        product.finish("train")
    assert product.is_complete("train")


@pytest.mark.parametrize("finished", [True, False])
def test_changed_inputs_are_refused(tmp_path, finished):
    product = make_product(tmp_path)
    product.open(overwrite=False)
    product.start("train", "x")
    make_file(tmp_path / "seeds")
    if finished:
        product.finish("train")
    with pytest.raises(
        ProductMismatch, match=r"other images or labels of train[\s\S]*overwrite=true"
    ):
        product.start("train", "y")


def test_other_settings_are_refused_and_named(tmp_path):
    make_product(tmp_path).open(overwrite=False)
    make_file(tmp_path / "seeds")
    with pytest.raises(ProductMismatch, match=r"power: 1 -> 2[\s\S]*overwrite=true"):
        make_product(tmp_path, power=2).open(overwrite=False)


def test_another_upstream_is_refused_and_named(tmp_path):
    make_product(tmp_path).open(overwrite=False)
    make_file(tmp_path / "seeds")
    other = Product(tmp_path / "seeds", make_product(tmp_path).settings, {"cls": "xyz"})
    with pytest.raises(ProductMismatch, match="made from cls"):
        other.open(overwrite=False)


def test_overwriting_removes_the_old_files(tmp_path):
    make_product(tmp_path).open(overwrite=False)
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "a.png").touch()
    (tmp_path / "journal").touch()
    product = make_product(tmp_path, power=2)
    product.open(overwrite=True, beside=[tmp_path / "journal"])
    assert not (tmp_path / "seeds").exists()
    assert not (tmp_path / "journal").exists()
    assert read_fingerprint(tmp_path / "seeds") == product.fingerprint


def test_files_of_others_are_never_touched(tmp_path):
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "a.png").touch()
    with pytest.raises(ProductMismatch, match="not made here"):
        make_product(tmp_path).open(overwrite=True)
    assert (tmp_path / "seeds" / "a.png").exists()


def test_a_broken_record_names_itself(tmp_path):
    (tmp_path / "seeds.json").write_text("{")
    with pytest.raises(ValueError, match=r"seeds\.json is no JSON"):
        read_record(tmp_path / "seeds")


def test_files_without_record_are_told_apart_by_what_they_hold(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("same", b"1")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}_folder").mkdir()
        (tmp_path / f"{name}_folder" / f"{content.decode()}.png").write_bytes(content)
    for suffix in ("", "_folder"):
        a, b, same = (read_fingerprint(tmp_path / f"{name}{suffix}") for name in ("a", "b", "same"))
        assert a == same != b

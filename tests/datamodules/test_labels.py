from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fake_trees import VOC_CLASSES, VOC_PROMPTS, write_mask, write_voc_xml

from datamodules.label_files import LabelsFromFile, LabelsFromList
from datamodules.labels import (
    LabelsFromFolders,
    LabelsFromMasks,
    LabelsFromXml,
    LabelSource,
    keep_image_labels,
    keep_labels_in_crop,
)

CLASSES = {name: index for names in (VOC_CLASSES, VOC_PROMPTS) for index, name in enumerate(names)}


def make_source(folder: Path, names: tuple[str, ...] = ()) -> LabelSource:
    return LabelSource(CLASSES, {name: folder / f"{name}.png" for name in names}, folder)


def test_masks_show_their_classes(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.array([[0, 1, 3], [255, 255, 0]], np.uint8))
    write_mask(tmp_path / "b.png", np.array([[0, 255]], np.uint8))
    read = LabelsFromMasks(cache=None)(["a", "b", "c"], make_source(tmp_path, ("a", "b")))
    assert read == {"a": (0, 2), "b": ()}


def test_a_mask_of_other_values_is_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.array([[0, 4]], np.uint8))
    with pytest.raises(ValueError, match=r"a\.png holds the value 4, expected 0 to 3 or 255"):
        LabelsFromMasks(cache=None)(["a"], make_source(tmp_path, ("a",)))


def test_the_cache_is_trusted_until_a_mask_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("größe, 1", "b")
    for name in names:
        write_mask(tmp_path / f"{name}.png", np.array([[0, 1]], np.uint8))
    reader, source = (
        LabelsFromMasks(cache=tmp_path / "deep" / "labels.csv"),
        make_source(tmp_path, names),
    )
    caplog.set_level("INFO")
    first = reader(names, source)
    assert reader(names, source) == first == {name: (0,) for name in names}
    assert [record.args for record in caplog.records] == [(2,)]

    write_mask(tmp_path / "b.png", np.array([[0, 1, 2, 3]], np.uint8))
    assert reader(names, source)["b"] == (0, 1, 2)
    assert caplog.records[-1].args == (1,)


def test_the_cache_knows_masks_of_one_name_apart(tmp_path: Path) -> None:
    reader, found = LabelsFromMasks(cache=tmp_path / "labels.csv"), []
    for folder, value in (("one", 1), ("two", 2)):
        write_mask(tmp_path / folder / "a.png", np.array([[0, value]], np.uint8))
        os.utime(tmp_path / folder / "a.png", (1e9, 1e9))  # as an archive would unpack both
        found.append(reader(["a"], make_source(tmp_path / folder, ("a",)))["a"])
    assert found == [(0,), (1,)]


def test_xml_with_and_without_difficult_objects(tmp_path: Path) -> None:
    write_voc_xml(tmp_path / "a.xml", [("person", 0), ("bird", 1), ("person", 0)])
    source = make_source(tmp_path)
    assert LabelsFromXml(difficult=True)(["a", "b"], source) == {"a": (1, 2)}
    assert LabelsFromXml(difficult=False)(["a"], source) == {"a": (2,)}


def test_broken_xml_and_unknown_classes_are_named(tmp_path: Path) -> None:
    write_voc_xml(tmp_path / "a.xml", [("yeti", 0)])
    with pytest.raises(
        ValueError,
        match=r"a\.xml: label 'yeti': no class of this data set; expected one of aeroplane",
    ):
        LabelsFromXml(difficult=True)(["a"], make_source(tmp_path))
    (tmp_path / "b.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"b\.xml is not whole XML"):
        LabelsFromXml(difficult=True)(["b"], make_source(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"dataset/labels=masks"):
        LabelsFromXml(difficult=True)(["b"], make_source(tmp_path / "nowhere"))


def test_csv_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    rows = [
        'in/a.v2.jpg,"bird; person"',
        "b,",
        'c,"person with clothes,people,human"',
        "b,aeroplane",
    ]
    file.write_text("\n".join(["\ufeffname,labels", *rows, ""]))
    reader = LabelsFromFile(file)
    assert reader(["in/a.v2", "b", "c"], make_source(tmp_path)) == {
        "in/a.v2": (1, 2),
        "b": (0,),
        "c": (2,),
    }
    assert reader.list_names([]) == [
        "aeroplane",
        "bird",
        "person",
        "person with clothes,people,human",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,labels\na,bird\nb,yeti\n", "line 3: label 'yeti': no class"),
        ("name,labels\na,255\n", "255 marks ignored pixels"),
        ("image,class\na,bird\n", "expected a first line `name,labels`"),
        ("name,labels\nz,bird\n", "names none of the images, such as 'a'"),
        (
            "name,labels\na,bird,person\n",
            "line 2: 'person' stands outside the column `labels`; put semicolons between",
        ),
        ("name,labels,scores\na,bird,person\n", "'person' stands outside the column `labels`"),
        (
            'name,labels\na,"bird\n' + 70000 * "b,\n",
            r"labels\.csv, line \d+: field larger.*quotation mark left open",
        ),
        ("name,labels\na,bird\0\n", r"labels\.csv is no text in UTF-8 \(it holds zero bytes\)"),
    ],
)
def test_bad_csv_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        LabelsFromFile(file)(["a"], make_source(tmp_path))


def test_the_value_of_ignored_pixels_names_no_class(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,labels\na,bird\nb,255\n")
    (tmp_path / "labels.txt").write_text("a bird\nb 255\n")
    for reader, place in (
        (LabelsFromFile(tmp_path / "labels.csv"), r"labels\.csv, line 3"),
        (LabelsFromList(tmp_path / "labels.txt"), r"labels\.txt, line 2"),
        (LabelsFromFolders(), "the folder of '255/b'"),
    ):
        with pytest.raises(ValueError, match=rf"{place}: label '255': 255 marks ignored pixels"):
            reader.list_names(["bird/a", "255/b"])


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffname;labels;scores\r\nin/größe.jpg;"bird; person";0,9\r\nb;;\r\n;;\r\n',
        "\ufeffname,labels\r\nin/größe.jpg,bird;person\r\nb\r\n\r\n",
    ],
)
def test_csv_files_as_excel_saves_them(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode())
    assert LabelsFromFile(file)(["in/größe", "b"], make_source(tmp_path)) == {
        "in/größe": (1, 2),
        "b": (),
    }


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
@pytest.mark.parametrize("reader", [LabelsFromFile, LabelsFromList])
def test_other_encodings_are_named(tmp_path: Path, reader: type, encoding: str) -> None:
    (tmp_path / "labels.csv").write_bytes("name,labels\ngröße,bird\n".encode(encoding))
    with pytest.raises(
        ValueError, match=r"labels\.csv is no text in UTF-8 \(byte \d+ is 0x.*save it again"
    ):
        reader(tmp_path / "labels.csv")(["größe"], make_source(tmp_path))


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    for reader in (LabelsFromFile(tmp_path / "x"), LabelsFromList(tmp_path / "x")):
        with pytest.raises(FileNotFoundError, match=r"label file .*x does not exist"):
            reader(["a"], make_source(tmp_path))


def test_text_lists(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("a.jpg bird person\n\nb\nin c\tperson with clothes,people,human\tbird\n")
    assert LabelsFromList(file)(["a", "b", "in c"], make_source(tmp_path)) == {
        "a": (1, 2),
        "b": (),
        "in c": (1, 2),
    }


def test_folder_labels(tmp_path: Path) -> None:
    reader, source = LabelsFromFolders(), make_source(tmp_path)
    assert reader(["bird/a", "train/person/b"], source) == {"bird/a": (1,), "train/person/b": (2,)}
    assert reader.list_names(["bird/a", "x/person/b"]) == ["bird", "person"]
    with pytest.raises(ValueError, match="1 images lie in no class folder, first 'a'"):
        reader(["a"], source)


def test_labels_of_a_crop() -> None:
    labels, seed = np.array([True, True, False]), np.array([[0, 255], [2, 3]], np.uint8)
    assert keep_image_labels(labels, seed).tolist() == [True, True, False]
    assert keep_labels_in_crop(labels, seed).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="give the folder `seeds`"):
        keep_labels_in_crop(labels, None)

"""Bad inputs: label files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .judge import BadInput
from .project import FOLDER, LABELLED, infer, train

GOOD = "name,labels\nphoto_0,circle\nphoto_1,square\nphoto_2,circle;star\nphoto_3,\n"
LIST = (*FOLDER, "dataset/labels=list", "dataset.labels.path=labels.txt")
FOLDERS = (*FOLDER, "dataset/labels=folders")
SHAPES_XML = "data/shapes-0/Annotations/train_00001.xml"
NAME = r"is no name of a class: expected at most 200 characters"
HEADER = r"expected a first line `name,labels`"
UTF8 = r"is no text in UTF-8.*save it again"


def write(content: str | bytes, name: str = "labels.csv") -> Callable[[Path], None]:
    """Write a file of the project."""
    data = content if isinstance(content, bytes) else content.encode()

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return prepare


def table(
    name: str, content: str | bytes, tells: str, names: str = r"labels\.csv", *words: str
) -> BadInput:
    """A table of labels that should not work."""
    command = train("cls", *LABELLED, *words)
    return BadInput(f"csv_{name}", "labels", command, write(content), names, tells)


def listed(name: str, content: str | bytes, tells: str, names: str = r"labels\.txt") -> BadInput:
    """A text list of labels that should not work."""
    prepare = write(content, "labels.txt")
    return BadInput(f"list_{name}", "labels", train("cls", *LIST), prepare, names, tells)


def xml(name: str, content: str | bytes, tells: str) -> BadInput:
    """An annotation of VOC's kind that should not work."""
    prepare = write(content, SHAPES_XML)
    return BadInput(f"xml_{name}", "labels", train("cls"), prepare, r"train_00001\.xml", tells)


def folders(name: str, prepare: Callable[[Path], None], names: str, tells: str) -> BadInput:
    """Folders of classes that should not work."""
    return BadInput(f"folders_{name}", "labels", train("cls", *FOLDERS), prepare, names, tells)


def move_into(*names: str) -> Callable[[Path], None]:
    """Move the photos into folders, in turn."""

    def prepare(folder: Path) -> None:
        for number, photo in enumerate(sorted((folder / "photos").glob("*.jpg"))):
            place = folder / "photos" / names[number % len(names)]
            place.mkdir(exist_ok=True)
            photo.rename(place / photo.name)

    return prepare


def save_arrays(folder: Path) -> None:
    """Save labels as other projects do: a dictionary, pickled."""
    np.save(folder / "cls_labels.npy", {"photo_0": np.ones(3)}, allow_pickle=True)


def copy_suffixes(folder: Path) -> None:
    """Give two photos one name."""
    shutil.copy(folder / "photos/photo_0.jpg", folder / "photos/photo_0.png")


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha">'
    + "".join(
        f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' if n else '<!ENTITY x0 "ha">' for n in range(12)
    )
    + "]><annotation><object><name>&x11;</name></object></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotation><object><name>&x;</name></object></annotation>"
)

CASES: list[BadInput] = [
    # files that are no table
    table("empty", "", HEADER),
    table("blank_lines_only", "\n\n \n", HEADER),
    table("header_only", "name,labels\n", "names no class"),
    table("no_header", GOOD.partition("\n")[2], HEADER),
    table("header_in_capitals", GOOD.replace("name,labels", "Name,Labels"), HEADER),
    table("column_twice", GOOD.replace("name,labels", "name,name,labels"), HEADER),
    table("other_columns", GOOD.replace("name,labels", "file,class"), HEADER),
    table("json_inside", '{"photo_0": ["circle"]}', HEADER),
    table("html_inside", "<!DOCTYPE html><html><body>404</body></html>", HEADER),
    table("utf_16", GOOD.encode("utf-16"), UTF8),
    table("latin_1", GOOD.replace("circle", "cercle à").encode("latin-1"), UTF8),
    table("zero_byte", GOOD.replace("circle", "cir\0cle"), UTF8),
    table("workbook_of_excel", b"PK\x03\x04" + bytes(200), UTF8),
    table("a_picture", b"\x89PNG\r\n\x1a\n" + bytes(50), UTF8),
    table("quote_left_open", GOOD.replace("photo_1", '"photo_1'), "quotation mark left open"),
    table("quote_inside", GOOD.replace("circle\n", '"cir"cle\n'), "quotation mark left open"),
    table("endless_cell", GOOD.replace("circle\n", "c" * 200_000 + "\n"), "line 2: field larger"),
    table("lone_header_cell", "name\nphoto_0\n", HEADER),
    # rows
    table("comma_between_labels", GOOD.replace(";", ","), "semicolons between several labels"),
    table("names_nothing", "name,labels\nx,circle\n", "names are paths below the root"),
    table("climbs_out", "name,labels\n../../photo_0,circle\n", "names are paths below the root"),
    table("absolute_names", "name,labels\n/etc/passwd,circle\n", "names are paths below the root"),
    table("row_is_missing", "name,labels\nphoto_0,circle\n", "no known labels", "photo_1"),
    table("no_label_at_all", "name,labels\nphoto_0,\nphoto_1,\n", "names no class"),
    table("scores_are_words", "name,labels,scores\nphoto_0,circle,star\n", "outside the column"),
    # names of classes
    table("ignored_value", GOOD.replace("star", "255"), "255 marks ignored pixels"),
    table("background", GOOD.replace("star", "background"), "take it out of the classes"),
    table("escape_sequence", GOOD.replace("star", "\x1b[31mstar"), NAME),
    table("line_separator", GOOD.replace("star", "st\u2028ar"), NAME),
    table("endless_label", GOOD.replace("star", "s" * 5000), NAME),
    table(
        "more_classes_than_a_mask_holds",
        GOOD.replace("star", ";".join(f"c{n}" for n in range(300))),
        "a mask holds at most 254",
    ),
    table(
        "unknown_class",
        GOOD.replace("star", "spoon"),
        "expected one of circle, square, star",
        r"labels\.csv, line 4: label 'spoon'",
        "dataset.classes=[circle,square,star]",
    ),
    table(
        "resolver_as_label",
        GOOD.replace("star", "${oc.env:HOME}"),
        "expected one of circle",
        r"label '\$\{oc.env:HOME\}'",
        "dataset.classes=[circle,square]",
    ),
    table(
        "markup_as_label",
        GOOD.replace("star", "[/red]"),
        "expected one of circle",
        r"label '\[/red\]'",
        "dataset.classes=[circle,square]",
    ),
    # other kinds of files
    BadInput(
        "a_folder",
        "labels",
        train("cls", *FOLDER, "dataset/labels=file", "dataset.labels.path=photos"),
        None,
        "photos",
        "does not exist; write it",
    ),
    BadInput(
        "no_such_file",
        "labels",
        train("cls", *FOLDER, "dataset/labels=file", "dataset.labels.path=none.csv"),
        None,
        r"none\.csv",
        "does not exist; write it",
    ),
    BadInput(
        "pickled_dictionary",
        "labels",
        train("cls", *FOLDER, "dataset/labels=file", "dataset.labels.path=cls_labels.npy"),
        save_arrays,
        r"cls_labels\.npy",
        "holds arrays, no text.*dataset/labels=npy reads",
    ),
    # text lists
    listed("empty", "", "names no class"),
    listed("names_only", "photo_0\nphoto_1\n", "names no class"),
    listed("utf_16", "photo_0 circle\n".encode("utf-16"), UTF8),
    listed("names_nothing", "x circle\n", "names are paths below the root"),
    listed("ignored_value", "photo_0 255\n", "255 marks ignored pixels"),
    listed("background", "photo_0\tbackground\n", "take it out of the classes"),
    # annotations
    xml("empty", "", "is not whole XML"),
    xml("cut", "<annotation><object><name>circ", "is not whole XML"),
    xml("laughs", LAUGHS, "declares a document type"),
    xml("outside_entity", OUTSIDE, "declares a document type"),
    xml("unknown_encoding", '<?xml version="1.0" encoding="nope"?><annotation/>', "not whole XML"),
    xml("unknown_class", "<a><object><name>spoon</name></object></a>", "expected one of circle"),
    xml("object_without_name", "<a><object/></a>", "no name of a class: write a word"),
    # folders of classes
    folders("loose_images", lambda folder: None, "photos", "one folder per class"),
    folders("background", move_into("background", "b"), "background/photo_", "take it out"),
    folders("escape_sequence", move_into("a\x1b[31m", "b"), r"a\\x1b", "rename it"),
    folders("line_end", move_into("a\nb", "b"), r"a\\nb", "rename it"),
    folders("ignored_value", move_into("255", "b"), "255/photo_", "255 marks ignored pixels"),
    # names of images
    BadInput(
        "two_images_of_a_name",
        "labels",
        train("cls", *LABELLED),
        copy_suffixes,
        r"photo_0\.(png|jpg)",
        "share the name 'photo_0'; rename one",
    ),
    # labels that a table could not hold
    BadInput(
        "semicolon_in_a_class",
        "labels",
        infer("labels", *FOLDER, "dataset.classes=['a;b',c]"),
        None,
        "a;b",
        "take them out of dataset.classes",
    ),
]

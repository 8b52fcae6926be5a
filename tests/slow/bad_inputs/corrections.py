"""Bad inputs: corrections of people, in files of other tools."""

from __future__ import annotations

from .judge import BadInput
from .labels import write
from .project import infer

IMAGE = '<image name="train_00001.jpg" width="112" height="112">{}</image>'
BOX = '<box label="{}" xtl="1" ytl="1" xbr="{}" ybr="9"/>'
BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'
ROWS = "image,class,label,strength,evidence,correct\n"


def corrected(name: str, file: str, content: str, tells: str, *words: str) -> BadInput:
    """A file of corrections that should not work."""
    command = infer("corrections", f"corrected={file}", *words)
    names = file.replace(".", r"\.")
    return BadInput(f"corrected_{name}", "corrections", command, write(content, file), names, tells)


def shape(name: str, inner: str, tells: str) -> BadInput:
    """A shape that covers no pixels of a class."""
    content = f"<annotations>{IMAGE.format(inner)}</annotations>"
    return corrected(name, "drawn.xml", content, tells)


def marked(name: str, row: str, tells: str) -> BadInput:
    """A row of doubtful labels that means nothing."""
    command = infer("cls", "dataset.label_corrections=marks.csv", "overwrite=true")
    prepare = write(f"{ROWS}{row}\n", "marks.csv")
    return BadInput(f"marked_{name}", "corrections", command, prepare, r"marks\.csv", tells)


CASES = [
    corrected("bomb", "drawn.xml", BOMB, "declares a document type"),
    corrected("cut_xml", "drawn.xml", "<annotations><image", "not whole XML"),
    corrected("cut_json", "drawn.json", '[{"data": {}}, ', "no whole list of tasks"),
    corrected("deep_json", "drawn.json", "[" * 100_000, "no whole list of tasks"),
    corrected("other_json", "drawn.json", '{"a": 1}', "no list `"),
    corrected("text", "drawn.txt", "circle", "expected what CVAT"),
    corrected("nobody", "drawn.xml", f"<a>{IMAGE.format('')}</a>", "1 have no annotation"),
    shape("class", BOX.format("cow", 9), "'cow' is no class here"),
    shape("nan", BOX.format("circle", "nan"), "finite"),
    shape("far", BOX.format("circle", "1e12"), "far behind"),
    marked("image", "nobody,circle,listed,,,yes", "is no image"),
    marked("class", "train_00001,cow,listed,,,yes", "no class of this data set"),
    marked("word", "train_00001,circle,listed,,,perhaps", "expected yes or no"),
]

"""Names and paths of the command line are text: refused with what to type, or kept as they are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from fake_trees import build_folder_tree
from front_door import run

import infer
from stages.typed import quote_setting

CHECK = ["task=check", "job.workers=0", "dataset=folder", "logger=none"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return build_folder_tree(tmp_path / "photos")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dataset.classes=circle", "dataset.classes=circle: expected a list of names"),
        ("dataset.classes=[1,2]", r"dataset.classes=\[1,2\]: expected a list of names"),
        ("dataset.classes=[true,no]", r"dataset.classes=\[true,no\]: expected a list of names"),
        ("dataset.classes=[1e5]", "expected a list of names"),
        ("dataset.classes=[cat,cat]", "1 classes have the same name as another, first 'cat'"),
        ("dataset.classes=['é','e\u0301']", "1 classes have the same name as another"),
        ("dataset.classes=[Background]", "Background is what no class covers: take it out"),
        ("dataset.classes=[' cat']", "take the space around it away"),
        ("dataset.background=sky", "background=sky: expected a list of names"),
        ("dataset.prompt_names=ab", "dataset.prompt_names=ab: expected a list of names"),
        ("split=2012", "type 'split=\"2012\"'"),
        ("split=[2012]", r"split=\[2012\]: expected text"),
        ("dataset.root=2024_05_01", "type 'dataset.root=\"2024_05_01\"'"),
        ("paths.work=true", "type 'paths.work=\"true\"'"),
        ("paths.outputs=2024_05", "type 'paths.outputs=\"2024_05\"'"),
    ],
)
def test_what_is_no_text_is_refused(photos: Path, word: str, said: str, monkeypatch) -> None:
    before = sorted(path.name for path in photos.parent.iterdir())
    with pytest.raises(ValueError, match=said):
        run(infer.main, monkeypatch, *CHECK, "dataset.root=photos", "paths.outputs=out", word)
    assert sorted(path.name for path in photos.parent.iterdir() if path.name != "out") == before


def test_more_classes_than_a_mask_holds_are_refused(photos: Path, monkeypatch) -> None:
    names = ",".join(f"c{number}" for number in range(255))
    words = ["dataset.root=photos", "paths.outputs=out", f"dataset.classes=[{names}]"]
    with pytest.raises(ValueError, match="255 classes, but a mask holds at most 254"):
        run(infer.main, monkeypatch, *CHECK, *words)


@pytest.mark.parametrize("name", ["2024_05_01", "1e5", "true", "nan", 'it\'s (1), 50% & "more"\\'])
def test_a_folder_of_any_name_is_read_when_typed_as_told(
    photos: Path, name: str, monkeypatch, capsys
) -> None:
    photos.rename(photos.parent / name)
    (word,) = shlex.split(quote_setting("dataset.root", name))
    run(infer.main, monkeypatch, *CHECK, word, "paths.outputs=out")
    assert "nothing to repair" in capsys.readouterr().out

    # the record of the run holds the command as it can be pasted
    (record,) = Path("out/folder/runs").glob("*/run.json")
    command = json.loads(record.read_text(encoding="utf-8"))["command"]
    assert shlex.split(command) == ["python", "program.py", *CHECK, word, "paths.outputs=out"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("dataset.root", "Fotos März (1) & mehr"),
        ("dataset.root", "a,b"),
        ("paths.outputs", "O'Brien=new"),
        ("paths.outputs", "[1]"),
        ("dataset.labels.path", "labels [2];.csv"),
    ],
)
def test_what_hydra_reads_otherwise_is_refused_with_what_to_type(
    photos: Path, key: str, name: str, monkeypatch, capsys
) -> None:
    Path("labels.csv").write_text("name,labels\ncat/a.v2,cat\ncat/b,cat\ndog/größe 1,dog\n")
    given = {"dataset.root": "photos", "paths.outputs": "out", "dataset.labels.path": "labels.csv"}
    if key != "paths.outputs":
        Path(given[key]).rename(name)
    typed = {setting: f"{setting}={value}" for setting, value in (given | {key: name}).items()}
    words = [*CHECK, "dataset/labels=file"]
    before = sorted(Path().iterdir())
    with pytest.raises(ValueError, match=r"expected (text|quotes)") as error:
        run(infer.main, monkeypatch, *words, *typed.values())
    assert sorted(Path().iterdir()) == before

    # what it says works
    (typed[key],) = shlex.split(re.search(r"type ('.*')$", str(error.value))[1])
    run(infer.main, monkeypatch, *words, *typed.values())
    assert "nothing to repair" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["2024-05-01", "my $1 photos"])
def test_what_hydra_reads_as_it_stands_needs_no_more_quotes(
    photos: Path, name: str, monkeypatch, capsys
) -> None:
    photos.rename(name)
    run(infer.main, monkeypatch, *CHECK, f"dataset.root={name}", f"paths.outputs=out/{name}")
    assert "nothing to repair" in capsys.readouterr().out
    assert Path("out", name, "folder/runs").is_dir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dataset.root=my", "photos", "(1)"], """type 'dataset.root="my photos (1)"'"""),
        (["dataset.classes=[cat,", "dog]"], "type 'dataset.classes=[cat,dog]'"),
        (["dataset.classes=[big cat,dog (1)]"], """type 'dataset.classes=[big cat,"dog (1)"]'"""),
        (["dataset.root=~/my (1)"], """type 'dataset.root="/home/me/my (1)"'"""),
    ],
)
def test_words_that_the_shell_cut_are_put_together(words, told, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(ValueError, match="expected quotes around the value") as error:
        run(infer.main, monkeypatch, *CHECK, *words, "paths.outputs=out")
    assert str(error.value).endswith(told)


def test_a_label_of_two_meanings_is_the_class(photos: Path, monkeypatch, capsys) -> None:
    """A word that stands in the prompt of another class stays the name of its own."""
    Path("labels.csv").write_text("name,labels\ncat/a.v2,cat\ncat/b,cat\ndog/größe 1,dog\n")
    labels = ["dataset/labels=file", "dataset.labels.path=labels.csv", "dataset.root=photos"]
    names = ["dataset.classes=[cat,dog]", "dataset.prompt_names=[kitten,cat]"]
    run(infer.main, monkeypatch, *CHECK, *labels, *names, "paths.outputs=out")
    assert "no image shows" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["${oc.env:HOME}", "a${b}"])
@pytest.mark.parametrize("quotes", ["{}/cat", '"{}/cat"', "\\{}/cat", "{}"])
def test_a_folder_of_a_name_that_refers_is_refused_with_what_to_type(
    photos: Path, name: str, quotes: str, monkeypatch, capsys
) -> None:
    photos.rename(name)
    with pytest.raises(ValueError, match="read as a reference to another: rename it") as error:
        run(
            infer.main,
            monkeypatch,
            *CHECK,
            f"dataset.root={quotes.format(name)}",
            "paths.outputs=out",
        )
    assert not Path("out").exists()

    # what it says works
    command, word = re.search(r"\((.*)\) and type (.*)$", str(error.value)).groups()
    _, _, place, link = shlex.split(command)
    Path(link).symlink_to(place)
    run(infer.main, monkeypatch, *CHECK, word, "paths.outputs=out")
    assert "nothing to repair" in capsys.readouterr().out


@pytest.mark.parametrize("names", ["[${oc.env:HOME},dog]", '["\\${oc.env:HOME}",dog]'])
@pytest.mark.parametrize("key", ["classes", "prompt_names", "background"])
def test_a_typed_name_is_never_a_reference(
    photos: Path, key: str, names: str, monkeypatch, tmp_path
) -> None:
    words = [*CHECK, f"dataset.root={photos}", "paths.outputs=out", f"dataset.{key}={names}"]
    with pytest.raises(ValueError, match="let a file name the classes"):
        run(infer.main, monkeypatch, *words)
    assert not Path("out").exists()


def test_a_folder_called_like_a_missing_value_is_refused(photos: Path, monkeypatch) -> None:
    photos.rename("???")
    with pytest.raises(
        ValueError, match=r"the name of \?\?\? is what settings read as a reference"
    ):
        run(infer.main, monkeypatch, *CHECK, "dataset.root=???", "paths.outputs=out")


def test_a_setting_may_refer_to_another(photos: Path, monkeypatch, capsys) -> None:
    run(
        infer.main,
        monkeypatch,
        *CHECK,
        "dataset.root=${paths.data}",
        "paths.data=photos",
        "paths.outputs=out",
    )
    assert "nothing to repair" in capsys.readouterr().out


def test_nothing_runs_within_a_folder_of_such_a_name(photos: Path, monkeypatch) -> None:
    Path("${oc.env:HOME}").mkdir()
    monkeypatch.chdir("${oc.env:HOME}")
    with pytest.raises(ValueError, match="run elsewhere"):
        run(infer.main, monkeypatch, *CHECK, f"dataset.root={photos}")
    assert not list(Path.cwd().iterdir())


def test_proposed_labels_hold_no_formulas(photos: Path, monkeypatch, capsys) -> None:
    """People open them in a spreadsheet: what begins one is guarded, and read back as it was."""
    (photos / "cat").rename(photos / "=1+1")
    words = ["dataset=folder", "dataset.root=photos", "paths.outputs=out", "logger=none"]
    tiny = ["clip=tiny", "data.workers=0", "report=none", "dataset.classes=[circle,square]"]
    run(infer.main, monkeypatch, "task=labels", *words, *tiny, "prompts=handwritten")
    lines = Path("out/folder/labels.csv").read_text(encoding="utf-8").splitlines()
    assert [line.partition("/")[0] for line in lines[1:]] == ["'=1+1", "'=1+1", "dog"]
    run(infer.main, monkeypatch, *CHECK, *words[1:3], "dataset/labels=zeroshot", tiny[-1])
    shown = capsys.readouterr().out
    assert "have no known labels" not in shown
    assert "that are not there" not in shown


def test_a_guarded_label_of_another_program_is_told(photos: Path, monkeypatch, capsys) -> None:
    """`'=a` of a foreign table is the class `=a`, as in a table of ours, and the log says so."""
    rows = "cat/a.v2,'=a\ncat/b,''=a\ndog/größe 1,b\n"
    Path("labels.csv").write_text(f"name,labels\n{rows}", encoding="utf-8")
    words = ["dataset/labels=file", "dataset.labels.path=labels.csv", "dataset.root=photos"]
    run(infer.main, monkeypatch, *CHECK, *words, "paths.outputs=out")
    shown = capsys.readouterr().out
    assert "'=a, ''=a are read without the apostrophe" in shown
    assert "│ =a   │" in shown
    assert "│ '=a  │" in shown


def test_a_class_that_no_table_holds_is_refused_before_clip_sees_a_photo(photos, monkeypatch):
    """F21."""
    monkeypatch.setattr("lightning.Trainer.predict", None)
    words = ["dataset=folder", "dataset.root=photos", "paths.outputs=out", "logger=none"]
    with pytest.raises(ValueError, match="class 'a;b': labels stand between semicolons"):
        run(
            infer.main,
            monkeypatch,
            "task=labels",
            *words,
            "clip=tiny",
            "dataset.classes=['a;b',dog]",
        )
    assert not Path("out/folder/labels.csv").exists()

"""The door: what fails prints two lines at most, a traceback only where it is asked for."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from front_door import QUICK, ROOT, run

import infer
import train
from fmawsss.files.products import ProductMismatch
from stages.failures import EXTRAS, condense, explain


def fail(main, monkeypatch, *words: str) -> list[str]:
    """Run a command that fails, as a user's shell does; return what it prints at its end."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["program.py", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = str(ended.value.code).splitlines()
    assert 1 <= len(lines) <= 2
    assert "HYDRA_FULL_ERROR" not in os.environ
    return lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("task=nope", "task=nope: there is no such option; choose from check, cls,"),
        ("task=cls prompts=nope", "prompts=nope: there is no such option; choose from foreground,"),
        ("nope=1", "nope: there is no such key; --cfg job shows all keys"),
        ("loop.max_steps=3", r"loop.max_steps: .*stages.cls.loop.max_steps=…"),
        ("task=cls loop.max_step=3", "loop.max_step: the stage of this task has no such key"),
        ("task=cls loop.max_steps=[3", r"not to be read as KEY=VALUE"),
        ("task", "task: not to be read as KEY=VALUE"),
        ("dataset.names=cat", "dataset.names: class names are dataset.classes now"),
        (
            "dataset=folder dataset.classes=a,b",
            r"^dataset.classes=a,b: several values; a list is dataset.classes=\[a,b\], -m ",
        ),
        ("--config-dir nope", "nope' not found"),
        ("hydra.run.dir=/proc/nowhere", "/proc/nowhere: No such file"),
    ],
)
def test_commands_that_cannot_be_read(words, said, monkeypatch, tmp_path):
    lines = fail(train.main, monkeypatch, *words.split(), f"paths.outputs={tmp_path}")
    assert re.search(said, "\n".join(lines)), lines


def test_a_mistake_says_its_message_and_keeps_its_traceback(monkeypatch, tmp_path):
    places = [f"paths.outputs={tmp_path}/outputs", f"paths.data={tmp_path}/data"]
    words = ["task=cls", "dataset.train_images=2", "dataset.val_images=1", "logger=none", *places]
    lines = fail(train.main, monkeypatch, *words)
    assert len(lines) == 1
    assert "2 of 2 superpixels are missing" in lines[0]
    assert "python infer.py task=superpixels" in lines[0]

    (kept,) = tmp_path.rglob("error.txt")
    assert kept.read_text().startswith("Traceback (most recent call last)")


def test_lightning_stays_quiet_when_it_is_imported_after_hydra(monkeypatch, tmp_path):
    logger = logging.getLogger("lightning.pytorch")
    monkeypatch.setattr("stages.config.hush_warnings", lambda: logger.setLevel(logging.INFO))
    monkeypatch.setattr("stages.assembly.StageBuilder", lambda *_: enough())
    with pytest.raises(ValueError, match="enough"):
        run(train.main, monkeypatch, f"paths.outputs={tmp_path}")
    assert logger.level == logging.WARNING


def enough():
    raise ValueError("enough")


def test_yaml_in_another_encoding_is_named(monkeypatch, tmp_path):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment/mine.yaml"
    file.write_bytes("# @package _global_\nseed: 1 # café".encode("latin-1"))
    lines = fail(train.main, monkeypatch, "--config-dir", str(tmp_path), "experiment=mine")
    assert lines[0].startswith(f"{file}: no text in UTF-8")
    assert lines[0].endswith("save it again as such")


@pytest.mark.parametrize("text", ["seed: 1", "- seed"])
def test_experiments_that_change_nothing_are_refused(monkeypatch, tmp_path, text):
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(text)
    words = ["--config-dir", f"{tmp_path}/own", "experiment=mine", f"paths.outputs={tmp_path}"]
    with pytest.raises(ValueError, match=r"experiment=NAME changes nothing: .*in the first line"):
        run(train.main, monkeypatch, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "task=cls", "seed=range(3,3)"], r"seed=range\(3,3\) holds no value: name one"),
        (["task=cls", "split=[val,train,val]"], "split=val,train,val has val twice: name each"),
    ],
)
def test_values_that_say_nothing_new_are_refused(monkeypatch, tmp_path, words, message):
    places = [f"paths.outputs={tmp_path}/outputs", f"paths.data={tmp_path}/data", *QUICK[:2]]
    with pytest.raises(ValueError, match=message):
        run(train.main, monkeypatch, *words, *places, "logger=none")


def test_a_bug_says_its_type_and_where_its_traceback_is(monkeypatch, tmp_path):
    monkeypatch.setattr("stages.assembly.build_stages", lambda cfg, learning: {}["no such entry"])
    lines = fail(infer.main, monkeypatch, f"paths.outputs={tmp_path}")
    (kept,) = tmp_path.rglob("error.txt")
    assert lines == ["KeyError: 'no such entry'", f"all of it is in {kept}"]


def test_a_key_of_a_function_that_lacks_it_is_named(monkeypatch, tmp_path):
    places = [f"paths.outputs={tmp_path}/outputs", f"paths.data={tmp_path}/data"]
    words = ["task=superpixels", "dataset.train_images=1", "dataset.val_images=1", *places]
    lines = fail(infer.main, monkeypatch, *words, "+masks.depth=3")
    assert "depth" in lines[0]


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    places = [f"paths.outputs={tmp_path}/outputs", f"paths.data={tmp_path}/data", *QUICK[:2]]
    lines = fail(train.main, monkeypatch, "task=network", "network=timm", *places)
    said = 'segmentation_models_pytorch is not installed, and is needed here: pip install -e "'
    assert lines == [f'{said}.[networks]"']


def test_extras_bring_what_is_named():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {"faiss": "faiss-cpu", "python_multipart": "python-multipart", "starlette": "fastapi"}
    for library, extra in EXTRAS.items():
        brought = [re.split("[>=<]", line)[0] for line in extras["optional-dependencies"][extra]]
        assert named.get(library, library) in brought


def test_a_program_ends_with_one_and_no_traceback(tmp_path):
    command = [sys.executable, "train.py", "task=nope"]
    env = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


def test_long_lists_are_cut():
    listed = [f"  key.{number}: 1 -> 2" for number in range(12)]
    text = "\n".join(["cls.ckpt was made otherwise:", *listed, "Add overwrite=true."])
    assert explain(ProductMismatch(text)) == [
        "cls.ckpt was made otherwise:",
        "key.0: 1 -> 2; key.1: 1 -> 2; key.2: 1 -> 2; and 9 more. Add overwrite=true.",
    ]
    assert condense(["one", "two"]) == ["one", "two"]
    assert len(condense([str(number) for number in range(9)])) == 2


def test_errors_of_files_name_the_file(tmp_path):
    with pytest.raises(OSError, match="nowhere") as caught:
        Path(tmp_path / "nowhere").read_text()
    assert explain(caught.value) == [f"{tmp_path}/nowhere: No such file or directory"]

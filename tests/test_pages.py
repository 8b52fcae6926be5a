"""Pages are read by a parser of HTML5: every name comes back as written, and adds no markup."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
import torch
from fake_trees import draw_image, write_jpeg, write_mask
from front_door import run
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from name_tools import few, names, write_labels
from omegaconf import OmegaConf

import infer
from fmawsss.files.journals import describe_record
from fmawsss.files.json_files import RUN_FILE, write_json
from fmawsss.files.storage import write_cams
from fmawsss.files.texts import check_class_names, has_unseen, unguard_cell
from fmawsss.records import Cams, ImageRecord
from stages.pages import quote_code
from stages.reports.report import StageNote, note_stage
from stages.run_record import describe_surroundings
from stages.scores import enter_scores
from stages.sweeps.page import Finding, write_html, write_markdown
from stages.sweeps.summary import write_csv

html5lib = pytest.importorskip("html5lib", reason="no parser of HTML5: pip install html5lib")
markdown_it = pytest.importorskip("markdown_it")

PLAIN = "plain"
SURROUNDINGS = describe_surroundings()
SECTIONS = OmegaConf.load(Path(__file__).parents[1] / "conf/report/default.yaml")
MARKUP = [
    "<script>alert(1)</script>", "</style><b>", "\"><img src=x onerror=alert(1)>", "' onclick='x",
    "{{ 7*7 }}", "{% raw %}", "&lt;b&gt;", "&amp", "<!--", "]]>", "a`b`c", "`", "``x``", "|", "\\",
    "\\|", "_a_", "**b**", "[x](javascript:alert(1))", "![x](y)", "<http://a.b>", "~~s~~", "https://a.b",
]  # fmt: skip


def is_class(name: str) -> bool:
    """Say whether a class may have a name."""
    try:
        check_class_names([name, PLAIN])
    except ValueError:
        return False
    return True


def read_page(text: str) -> Element:
    """Parse a page as browsers do; raises for what is not valid."""
    page: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    return page


def list_markup(page: Element) -> Counter[tuple[str, ...]]:
    """Count the elements of a page, each with its attributes."""
    return Counter((node.tag, *sorted(node.attrib)) for node in page.iter() if node.tag)


def list_texts(page: Element, path: str) -> list[str]:
    """List the whole texts of some elements."""
    return ["".join(node.itertext()) for node in page.iterfind(path)]


def write_results(folder: Path, name: str, image: str) -> Element:
    """Write what a run leaves whose class and image have these names, and read its report."""
    shutil.rmtree(folder, ignore_errors=True)
    photo, product = folder / f"photos/{image}.jpg", folder / "masks"
    write_jpeg(photo, draw_image(0, (24, 32)))
    write_mask(product / f"{image}.png", draw_image(1, (24, 32))[..., 0] % 3)
    cams = Cams(torch.rand(1, 3, 4), torch.tensor([0]), None)
    write_cams(folder / f"cams/masks/{image}.npz", cams, "")

    # an image whose label is missing from its mask, with classes that were confused
    line = {"name": image, **describe_record(ImageRecord(image, photo, (0,)))}
    line |= {"confusion": {"network": [[0, 0, 9], [1, 2, 5], [2, 2, 3]]}, "boundary": {}}
    line |= {"regions": {"network": [[0, 0.7, 0.9], [2, 0.3, 0.9]]}, "probable": [[0, 0.9]]}
    (folder / "masks.scores.1-0.jsonl").write_text(json.dumps([line]) + "\n")
    stage = StageNote("network", product, "val", 1, ("background", name, PLAIN))
    note_stage(folder, stage)
    enter_scores(folder / "scores.json", "network", product, {"val": [image]}, [name, PLAIN])

    # the run, with both names in its command and its settings
    run_facts = {"stage": "network", "dataset": "folder", "status": f"stopped by {name}"}
    run_facts |= {**SURROUNDINGS, "command": f"infer.py {name} {image}"}
    write_json(folder / RUN_FILE, {**run_facts, "job": False, "stages": []})
    (folder / "config.yaml").write_text(f"classes: [{name}]\n{image}", encoding="utf-8")
    instantiate(SECTIONS)(folder)
    return read_page((folder / "report.html").read_text(encoding="utf-8"))


def is_seen(name: str) -> bool:
    """Say whether a page can show all of a text."""
    return not has_unseen(name)


def shorten(name: str) -> str:
    """Cut a name to what a file system holds, with an ending and those of temporary files."""
    return name.encode()[:120].decode(errors="ignore")


texts = (st.sampled_from(MARKUP) | names).filter(is_seen)
images = texts.map(shorten).filter(lambda name: name.strip(".") and "/" not in name)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Element:
    return write_results(tmp_path_factory.mktemp("usual"), "a class", "an image")


@few(30)
@given(texts.filter(is_class), images)
def test_a_report_names_classes_and_images(
    usual: Element, tmp_path: Path, name: str, image: str
) -> None:
    page = write_results(tmp_path / "run", name, image)
    assert list_markup(page) == list_markup(usual)

    # legend, bars, confusions, areas, rows of pictures
    assert list_texts(page, ".//section[@id='images']/ul/li") == [name, PLAIN]
    assert name in list_texts(page, ".//div[@class='bars']/div")
    assert name in list_texts(page, ".//section[@id='scores']//td")
    assert set(list_texts(page, ".//strong")) == {image}
    alts = [node.get("alt") for node in page.iterfind(".//img")]
    assert any(f"CAM {name} (network)" in alt for alt in alts)
    assert any(alt == f"prediction: {name}, {PLAIN}" for alt in alts)
    rows = " ".join(list_texts(page, ".//section[@id='labels']//p"))
    assert f"labelled {name}, but its mask has no pixel of it" in rows

    # command, status, settings
    code, config = list_texts(page, ".//code"), list_texts(page, ".//pre")
    assert f"infer.py {name} {image}" in code
    assert config == [f"classes: [{name}]\n{image}"]


@few(100)
@given(texts, texts)
def test_a_sweep_names_its_settings(name: str, other: str) -> None:
    text = f"Command: {quote_code(f'train.py {name} {other}')}"
    rows = [[1, name, other], [2, other, PLAIN]]
    findings = [Finding("Overview", text), Finding("All jobs", "", ("job", name, "value"), rows)]
    usual = [Finding("Overview", "Command: `a`"), Finding("All jobs", "", ("a", "b", "c"), rows)]
    page = read_page(write_html(name, findings, {}))
    assert list_markup(page) == list_markup(read_page(write_html("a", usual, {})))
    assert list_texts(page, ".//code") == [f"train.py {name} {other}"]
    assert list_texts(page, ".//th") == ["job", name, "value"]
    assert list_texts(page, ".//td") == ["1", name, other, "2", other, PLAIN]

    # Markdown, as others draw it
    draw = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render
    shown = html5lib.parse(draw(write_markdown(name, findings, [])), namespaceHTMLElements=False)
    assert {node.tag for node in shown.iter()} <= {
        "html", "head", "body", "h1", "h2", "p", "code", "table", "thead", "tbody", "tr", "th",
        "td",
    }  # fmt: skip
    assert list_texts(shown, ".//code") == [f"train.py {name} {other}"]
    assert [text.strip() for text in list_texts(shown, ".//th")] == ["job", name.strip(), "value"]


@few(60)
@given(texts)
def test_a_table_of_a_sweep_holds_no_formula(name: str) -> None:
    written = write_csv([{"job": 1, name: name, "value": 0.5, "error": name}])
    head, row = csv.reader(io.StringIO(written, newline=""))
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in (*head, *row))
    assert list(map(unguard_cell, row)) == ["1", name, "0.5", name]


def test_a_run_with_any_names_ends_with_a_valid_report(tmp_path: Path, monkeypatch) -> None:
    words = [name for name in MARKUP if ";" not in name and is_class(name)]
    shown = [name for name in words if "/" not in name]
    for index, name in enumerate(shown):
        write_jpeg(tmp_path / f"photos/{name}.jpg", draw_image(index, (24, 32)))
    write_labels(
        tmp_path / "labels.csv", {name: [word] for name, word in zip(shown, words, strict=False)}
    )
    monkeypatch.chdir(tmp_path)
    run(
        infer.main, monkeypatch,
        "task=cls", "dataset=folder", "dataset.root=photos", "dataset/labels=file",
        "dataset.labels.path=labels.csv", "clip=tiny", "sam=tiny", "prompts=handwritten",
        "data.superpixels=null", "writers.seeds.kind=cam", "scored=cam", "data.workers=0",
        "logger=none",
    )  # fmt: skip
    page = read_page((tmp_path / "outputs/folder/report.html").read_text(encoding="utf-8"))
    assert list_texts(page, ".//section[@id='images']/ul/li") == sorted(words[: len(shown)])
    named = set(list_texts(page, ".//strong"))
    assert named
    assert named <= set(shown)

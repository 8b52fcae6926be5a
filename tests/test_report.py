"""Every run leaves a record and a report that opens anywhere: one file, valid HTML, no network."""

from __future__ import annotations

import copy
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from front_door import QUICK, run

import infer
import train
from stages.reports.image_ranks import find_suspicions, rank_images
from stages.reports.lines import ReportLines, score_image
from stages.reports.rivals import compare_words
from stages.reports.scores import list_areas
from stages.scores import print_scores

VOID = {"meta", "img", "link", "br", "input"}


class StrictPage(HTMLParser):
    """Read a page, refusing tags that do not nest; keep what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.images = 0
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert len(values) == len(attrs), f"<{tag}> names an attribute twice"
        self.ids += [values["id"]] if "id" in values else []
        self.sources += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        if tag == "img":
            self.images += 1
            assert values["alt"].strip(), "a picture without a description"
        if tag == "svg":
            assert values["role"] == "img"
            assert values["aria-label"].strip()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.words += data


def read_page(path):
    return StrictPage(path.read_text(encoding="utf-8"))


def test_a_pipeline_leaves_one_self_contained_page(finished):
    path = finished / "outputs/shapes/report.html"
    page = read_page(path)
    assert path.stat().st_size < 2_000_000
    assert page.images > 10
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not re.search(r"https?://|@import|<script|url\(", path.read_text())
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        there = link[1:] in page.ids if link.startswith("#") else (path.parent / link).exists()
        assert there, link


def test_the_report_tells_what_ran_and_how_well(finished):
    work = finished / "outputs/shapes"
    page = read_page(work / "report.html")
    for words in (
        "Run",
        "Scores",
        "Images",
        "Labels in doubt",
        "Background words",
        "Superpixels",
        "Files",
        "Time per stage",
    ):
        assert words in page.words
    miou = json.loads((work / "scores.json").read_text())["network"]["val"]["network"]["miou"]
    assert f"{100 * miou:.1f}" in page.words
    for caption in ("superpixels", "coarse seed", "fine seed", "prediction", "truth"):
        assert caption in page.words
    assert "worst" in page.words
    assert "most uncertain" in page.words


def test_a_run_records_itself(finished):
    (record,) = (finished / "outputs/shapes/runs").glob("*/run.json")
    run_record = json.loads(record.read_text())
    assert run_record["status"] == "finished"
    assert "dataset.train_images=6" in run_record["overrides"]
    assert run_record["versions"]["torch"]
    assert run_record["machine"]["cores"] > 0
    done = [(entry["stage"], entry["action"]) for entry in run_record["stages"]]
    cls, seg, network = (
        [(stage, "learn"), (stage, "apply")] for stage in ("cls", "seg", "network")
    )
    coarse, fine = ((f"{kind}_memory", "apply") for kind in ("coarse", "fine"))
    assert done == [("superpixels", "apply"), *cls, coarse, *seg, fine, *network]
    assert all(entry["seconds"] >= 0 for entry in run_record["stages"])
    config = (record.parent / "config.yaml").read_text()
    assert "${" not in config
    assert "train_images: 6" in config
    assert (record.parent / ".hydra/overrides.yaml").is_file()


def test_a_run_that_fails_says_so(tmp_path, monkeypatch):
    there = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", *QUICK[:2]]
    with pytest.raises(FileNotFoundError, match="superpixels"):
        run(train.main, monkeypatch, "task=cls", *there)
    (record,) = (tmp_path / "outputs/shapes/runs").glob("*/run.json")
    assert json.loads(record.read_text())["status"].startswith("stopped by FileNotFoundError")
    assert not (tmp_path / "outputs/shapes/report.html").exists()


def test_a_report_is_written_again_on_request(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "outputs/shapes", tmp_path / "moved")
    (tmp_path / "moved/report.html").unlink()
    run(
        infer.main,
        monkeypatch,
        "task=report",
        f"run={tmp_path}/moved",
        f"paths.outputs={tmp_path}/outputs",
    )
    page = read_page(tmp_path / "moved/report.html")
    assert page.images > 10
    assert "train.py" not in page.words or "task=report" not in page.words


def test_the_gallery_is_filtered_and_bounded(finished, tmp_path, monkeypatch):
    work = finished / "outputs/shapes"
    text = (work / "report.html").read_text()
    assert text.index('id="scores"') < text.index('id="gallery"') < text.index('id="run"')
    page = read_page(work / "report.html")
    masks = sorted(path.name for path in (work / "masks").glob("*.png"))
    assert sorted(link.removeprefix("masks/") for link in page.links if "masks/" in link) == masks
    shown = {int(value) for value in re.findall(r'id="class-(\d+)"', text)}
    assert shown
    assert shown == {int(value) for value in re.findall(r" of-(\d+)", text)} - {0}
    assert all(f"#class-{value}:checked ~ div .card:not(.of-{value})" in text for value in shown)

    # the least certain of many, few of them with a picture
    shutil.copytree(work, tmp_path / "run")
    few = "report.sections.gallery."
    words = [f"{few}pictures=1", f"{few}listed=2", f"run={tmp_path}/run"]
    run(infer.main, monkeypatch, "task=report", *words, f"paths.outputs={tmp_path}/outputs")
    text = (tmp_path / "run/report.html").read_text()
    assert f"The 2 least certain of {len(masks)} photos" in text
    assert text.count('<div class="card') == 2 + 2  # and two grids of them
    assert "1 more, without pictures" in text


def test_a_folder_without_results_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="run=DIR"):
        run(
            infer.main,
            monkeypatch,
            "task=report",
            f"run={tmp_path}",
            f"paths.outputs={tmp_path}/outputs",
        )


def test_a_report_can_be_left_out(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    (tmp_path / "outputs/shapes/report.html").unlink()
    there = [f"paths.data={finished}/data", f"paths.outputs={tmp_path}/outputs"]
    run(train.main, monkeypatch, *QUICK, *there, "report=none")
    assert not (tmp_path / "outputs/shapes/report.html").exists()


def make_line(name, confusion=(), regions=(), labels=None, probable=()):
    return {
        "name": name,
        "confusion": {"sams": confusion},
        "regions": {"sams": regions},
        "labels": labels,
        "probable": probable,
    }


def hold(lines):
    """The lines of a report about three classes and the background."""
    return ReportLines(lambda: copy.deepcopy(lines), 4)


def test_the_last_line_of_an_image_counts():
    old = make_line("a", [[0, 0, 2], [0, 1, 8]], [[0, 1.0, 0.2]])
    new = make_line("a", [[0, 0, 9], [0, 1, 1]], [[0, 1.0, 0.9]])
    other = make_line("b", [[1, 1, 5]])
    found = hold([old, other, new])
    assert list(found) == ["a", "b"]
    assert found.confusion[:2, :2].tolist() == [[9, 1], [0, 5]]
    assert found.scores.tolist() == hold([new, other]).scores.tolist() == [0.9, 1.0]
    assert found.confidences[0] == 0.9


def test_the_score_of_an_image_averages_its_classes():
    line = make_line("a", [[0, 0, 6], [0, 1, 2], [1, 1, 4], [2, 1, 1]])
    assert score_image(line) == pytest.approx((6 / 8 + 4 / 7 + 0) / 3)
    assert score_image(make_line("b")) is None


def test_images_are_ranked_by_score_and_by_confidence():
    lines = [
        make_line(name, [[0, 0, right], [0, 1, 10 - right]], [[0, 1.0, sure]])
        for name, right, sure in (("good", 9, 0.2), ("fair", 5, 0.9), ("poor", 1, 0.8))
    ]
    found = {
        title: [line["name"] for line, _ in group]
        for title, group in rank_images(hold(lines), 4).items()
    }
    assert found == {"worst": ["poor"], "most uncertain": ["good"], "best": ["good"]}


def test_images_without_scores_are_all_shown_while_they_are_few():
    lines = [make_line(str(n), (), [[0, 1.0, n / 20]]) for n in range(20)]
    (found,) = rank_images(hold(lines[:4]), 4).values()
    assert [line["name"] for line, _ in found] == ["0", "1", "2", "3"]
    assert (
        len(rank_images(hold(lines), 4)["most uncertain"]) == 12
    )  # the room of best and worst, too


def test_areas_are_averaged_over_images():
    lines = [
        make_line("a", (), [[0, 0.5, 0.9], [2, 0.5, 0.9]]),
        make_line("b", (), [[0, 0.75, 0.9], [1, 0.25, 0.8]]),
    ]
    areas = list_areas(lines, ("background", "dog", "cat"))
    assert areas == [("background", 0.625, 2), ("cat", 0.25, 1), ("dog", 0.125, 1)]


def test_doubtful_labels_come_strongest_first():
    classes = ("background", "dog", "cat", "bird")
    fine = make_line("fine", (), [[0, 0.5, 0.9], [1, 0.5, 0.9]], [0], [[0, 0.9], [1, 0.1]])
    unseen = make_line("unseen", (), [[0, 1.0, 0.9]], [0], [[0, 0.6], [1, 0.4]])
    other = make_line("other", (), [[0, 0.9, 0.9], [1, 0.1, 0.9]], [0], [[0, 0.05], [1, 0.95]])
    network = make_line("network", (), [[0, 0.6, 0.9], [1, 0.2, 0.9], [3, 0.2, 0.7]], [0])
    found = find_suspicions([fine, unseen, other, network], classes)
    assert [doubt.line["name"] for doubt in found] == ["other", "network", "unseen"]
    assert "cat is not labelled" in found[0].reasons[0]
    assert "bird is not labelled, but seen on 20%" in found[1].reasons[0]
    assert "labelled dog, but its mask has no pixel" in found[2].reasons[0]


def test_look_alikes_make_labels_doubtful():
    classes = ("background", "dog", "cat", "bird")
    regions, probable = [[0, 0.5, 0.9], [1, 0.5, 0.9]], [[0, 0.5], [1, 0.5]]
    fine = make_line("fine", (), regions, [0], probable) | {"told": [[0, 0.9], [1, 0.05]]}
    wrong = make_line("wrong", (), regions, [0], probable) | {"told": [[0, 0.01], [1, 0.02]]}
    lacks = make_line("lacks", (), regions, [0], probable) | {"told": [[0, 0.9], [1, 0.95]]}
    found = find_suspicions([fine, wrong, lacks], classes)
    assert [doubt.line["name"] for doubt in found] == ["wrong", "lacks"]
    assert found[0].reasons == ["labelled dog, but hardly probable (0.09)"]
    assert "cat is not labelled, but more probable than a label (0.81)" in found[1].reasons[0]
    assert not find_suspicions([line | {"told": None} for line in (fine, wrong, lacks)], classes)


def test_background_words_are_compared_with_the_classes_that_images_show():
    lines = [
        {"labels": [0], "rivals": [["grass", 0.6], ["sky", 0.1]]},
        {"labels": [0, 1], "rivals": [["sky", 0.4], ["wall", 0.001]]},
    ]
    everywhere, weed, crack = compare_words(lines, ("background", "weed", "crack"))
    assert everywhere == ("all images", 2, [("grass", 0.3), ("sky", 0.25)], 1)
    assert (weed.name, weed.images, weed.won) == ("weed", 2, 1)
    assert crack == ("crack", 1, [("sky", 0.4)], 0)


def test_pages_escape_what_they_are_given():
    from stages.pages import render

    assert "&lt;b&gt;" in render("files.html.j2", files=[("<b>.txt", "text")])


def test_tables_of_scores_are_as_wide_as_they_need(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"a_stage_with_a_long_name_{number}" for number in range(6)]
    score = {"miou": 0.5, "accuracy": 0.5, "iou": {"background": 0.5}}
    table = {name: {"train": {"sams": score}} for name in names}
    (tmp_path / "scores.json").write_text(json.dumps(table))
    print_scores(tmp_path / "scores.json")
    printed = capsys.readouterr().out
    assert all(printed.count(f"{name}, train") >= 2 for name in names)

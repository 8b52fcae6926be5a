from __future__ import annotations

import doctest
import gc
import json
from types import SimpleNamespace

import pytest
import torch

from callbacks.score_journal import ScoreJournal
from fmawsss.files import journals
from fmawsss.files.journals import drop_regions, list_counts, read_lines
from fmawsss.files.tallies import detail_lines, find_miou, score_lines, tally_lines
from fmawsss.metrics import count_boundaries, count_confusion, summarise_confusion
from fmawsss.records import ImageRecord, Prediction
from stages.reports.lines import shorten_line
from stages.scores import print_scores, write_scores

CLASSES = ("dog", "cat")


class Predicted(Prediction):
    def __init__(self, name, mask):
        self.name = name
        self.mask = mask

    def masks(self):
        return {"sams": self.mask}


def run_batch(journal, *images):
    module = SimpleNamespace(classes=CLASSES)
    predictions = [Predicted(name, mask) for name, mask, _ in images]
    truths = [truth for *_, truth in images] if images[0][2] is not None else None
    journal.on_predict_batch_end(
        SimpleNamespace(global_rank=0), module, predictions, SimpleNamespace(truths=truths), 0
    )


def choose_lines(product, names):
    return [line for name, line in read_lines(product).items() if name in names]


def random_mask(seed):
    return torch.randint(0, 3, (5, 6), generator=torch.Generator().manual_seed(seed)).to(
        torch.uint8
    )


def test_scores_are_those_of_one_confusion_matrix(tmp_path):
    images = [(name, random_mask(i), random_mask(i + 9)) for i, name in enumerate("abc")]
    journal = ScoreJournal(tmp_path / "coarse", [])
    run_batch(journal, *images[:2])
    run_batch(journal, images[2])
    total = sum(count_confusion(mask, truth, 3) for _, mask, truth in images)
    expected = summarise_confusion(total, ("background", *CLASSES))
    assert score_lines(choose_lines(tmp_path / "coarse", "abc"), CLASSES)[
        "sams"
    ].miou == pytest.approx(expected.miou)


def test_counts_that_nobody_reads_are_left_out_of_the_text(tmp_path):
    assert doctest.testmod(journals).failed == 0
    odd = 'a "boundary": {"x": [[1, 1, 1]]}, "confusion": {"cam": [], "b'
    lines = [
        {
            "name": name,
            "confusion": {"cam": [[0, 0, 1], [1, 0, 2]], "sams": counts, **more},
            "boundary": {"cam": [[0, 0, 1]], "sams": []},
            "image": odd,
            "regions": {"sams": [[0, 1.0, 0.5]]},
        }
        for name in ("plain", odd)
        for counts in ([], [[2, 2, 9]])
        for more in ({}, {odd: [[0, 0, 1]]})
    ] + [{"name": "none", "confusion": {}, "boundary": {}, "image": odd}]
    path = tmp_path / "coarse.scores.1-0.jsonl"
    for separators in (None, (",", ":")):
        texts = [json.dumps(part, separators=separators) for part in (lines[:3], lines[3:])]
        path.write_text("\n".join(texts))
        short = [shorten_line(line) for line in journals.stream_lines(path, last=True)]
        assert short == list(map(shorten_line, lines))


def test_sums_of_many_images_are_those_of_one_after_the_other(monkeypatch):
    monkeypatch.setattr("fmawsss.files.tallies.AT_ONCE", 2)
    counts = [list_counts(count_confusion(random_mask(i), random_mask(i + 9), 3)) for i in range(5)]
    entries = [{"cam": counts[0]}, {}, {"cam": [], "caa": counts[1]}]
    entries += [{"caa": matrix} for matrix in counts[2:]]
    expected = {"cam": torch.zeros(3, 4).long(), "caa": torch.zeros(3, 4).long()}
    for kind, matrices in (("cam", counts[:1]), ("caa", counts[1:])):
        for row, column, pixels in (entry for matrix in matrices for entry in matrix):
            expected[kind][row, column] += pixels
    lines = [{"name": str(n), "confusion": entry} for n, entry in enumerate(entries)]
    found = tally_lines(iter(lines), 3).confusion
    assert list(found) == ["cam", "caa"]
    assert all(torch.equal(torch.from_numpy(found[kind]), expected[kind]) for kind in found)


def test_the_worst_images_are_those_of_all_images_one_by_one(monkeypatch):
    monkeypatch.setattr("fmawsss.files.tallies.AT_ONCE", 7)
    counts = [
        list_counts(count_confusion(random_mask(n % 40), random_mask(n % 40 + 9), 3))
        for n in range(60)
    ]
    lines = [
        {"name": f"{n}", "confusion": {"cam": found if n % 5 else []}}
        for n, found in enumerate(counts)
    ]
    known = {line["name"]: find_miou(line["confusion"]["cam"]) for line in lines}
    ranked = sorted((miou, int(name)) for name, miou in known.items() if miou is not None)
    worst = detail_lines(lines, CLASSES)["cam"]["worst_images"]
    assert list(worst.items()) == [(str(number), miou) for miou, number in ranked[:10]]


def test_a_journal_is_read_without_a_search_for_garbage(tmp_path, monkeypatch):
    collects = []
    monkeypatch.setattr(
        "fmawsss.files.journals.drop_regions",
        lambda line: collects.append(gc.isenabled()) or drop_regions(line),
    )
    run_batch(ScoreJournal(tmp_path / "coarse", []), ("a", random_mask(0), random_mask(9)))
    assert len(choose_lines(tmp_path / "coarse", "a")) == 1
    assert (collects, gc.isenabled()) == ([False], True)


def test_a_journal_is_read_again_when_it_grew(tmp_path):
    journal = ScoreJournal(tmp_path / "coarse", [])
    run_batch(journal, ("a", random_mask(0), random_mask(1)))
    assert read_lines(tmp_path / "coarse") is read_lines(tmp_path / "coarse")
    run_batch(journal, ("b", random_mask(0), random_mask(1)))
    assert set(read_lines(tmp_path / "coarse")) == {"a", "b"}


def test_only_the_split_is_scored_and_a_repeated_image_counts_once(tmp_path):
    truth = random_mask(1)
    journal = ScoreJournal(tmp_path / "coarse", [])
    run_batch(journal, ("a", random_mask(2), truth), ("other", random_mask(3), truth))
    run_batch(journal, ("a", truth, truth))
    assert score_lines(choose_lines(tmp_path / "coarse", ["a"]), CLASSES)["sams"].miou == 1.0


def test_a_batch_whose_line_is_cut_is_not_done(tmp_path):
    truth = random_mask(1)
    run_batch(ScoreJournal(tmp_path / "coarse", []), *((name, truth, truth) for name in "ab"))
    (path,) = tmp_path.glob("coarse.scores.*.jsonl")
    path.write_text(path.read_text()[:-9])
    journal = ScoreJournal(tmp_path / "coarse", [])
    assert not journal.has("a")
    run_batch(journal, *((name, truth, truth) for name in "ab"))
    assert read_lines(tmp_path / "coarse").keys() == {"a", "b"}


def test_lines_of_one_image_are_read(tmp_path):
    (tmp_path / "coarse.scores.1-0.jsonl").write_text('{"name": "a"}\n[{"name": "b"}]\n')
    assert read_lines(tmp_path / "coarse").keys() == {"a", "b"}


def test_a_cut_line_means_not_done(tmp_path):
    run_batch(ScoreJournal(tmp_path / "coarse", []), ("a", random_mask(1), random_mask(1)))
    with (tmp_path / "coarse.scores.0.jsonl").open("a") as file:
        file.write('{"name": "b", "conf')
    journal = ScoreJournal(tmp_path / "coarse", [])
    assert journal.has("a")
    assert not journal.has("b")
    run_batch(journal, ("b", random_mask(1), random_mask(1)))
    assert ScoreJournal(tmp_path / "coarse", []).has("b")


def test_an_image_is_counted_again_when_its_truth_changed(tmp_path):
    image, truth = tmp_path / "a.jpg", tmp_path / "a.png"
    image.write_bytes(b"image")
    truth.write_bytes(b"first")
    record = ImageRecord("a", image, truth=truth)
    journal = ScoreJournal(tmp_path / "masks", [record])
    run_batch(journal, ("a", random_mask(1), random_mask(1)))
    assert ScoreJournal(tmp_path / "masks", [record]).has("a")
    assert not ScoreJournal(tmp_path / "masks", [ImageRecord("a", image)]).has("a")
    truth.write_bytes(b"another")
    assert not ScoreJournal(tmp_path / "masks", [record]).has("a")


def test_a_journal_says_where_its_images_lie(tmp_path):
    image, truth = tmp_path / "a.jpg", tmp_path / "a.png"
    for path in (image, truth):
        path.write_bytes(b"content")
    records = [ImageRecord("a", image, labels=(0,), truth=truth), ImageRecord("b", image)]
    run_batch(
        ScoreJournal(tmp_path / "masks", records),
        ("a", random_mask(1), None),
        ("b", random_mask(2), None),
    )
    lines = read_lines(tmp_path / "masks")
    assert (lines["a"]["image"], lines["a"]["truth"]) == (str(image), str(truth))
    assert (lines["a"]["labels"], lines["b"]["labels"]) == ([0], None)
    assert lines["b"]["truth"] is lines["b"]["truth_stamp"] is None


def test_images_without_truth_are_done_but_not_scored(tmp_path):
    run_batch(ScoreJournal(tmp_path / "masks", []), ("a", random_mask(1), None))
    assert ScoreJournal(tmp_path / "masks", []).has("a")
    assert score_lines(choose_lines(tmp_path / "masks", ["a"]), CLASSES) == {}


def test_scores_json_keeps_the_other_stages_and_is_strict_json(tmp_path):
    one = {
        "sams": summarise_confusion(
            torch.tensor([[4, 0, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]]), ("bg", "dog", "cat")
        )
    }
    write_scores(tmp_path / "scores.json", "cls", "train", one)
    write_scores(tmp_path / "scores.json", "seg", "train", one)
    text = (tmp_path / "scores.json").read_text()
    assert "NaN" not in text
    assert set(json.loads(text)) == {"cls", "seg"}


def test_the_tables_show_totals_and_classes(tmp_path, capsys):
    matrix = torch.tensor([[4, 0, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]])
    score = summarise_confusion(matrix, ("background", *CLASSES))
    write_scores(tmp_path / "scores.json", "cls", "train", {"cam": score, "sams": score})
    print_scores(tmp_path / "scores.json")
    cells = [
        [cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()
    ]
    # mIoU: 4/5 and 3/4; 7 of 8 pixels; precision 4/5 and 1, recall 1 and 3/4
    assert ["", "cls, train", "sams", "77.5", "87.5", "90.0", "87.5", "none", ""] in cells
    assert ["", "dog", "75.0", ""] in cells
    assert ["", "cat", "none", ""] in cells


def test_details_name_confusion_boundaries_and_the_worst_images(tmp_path, capsys):
    images = [(name, random_mask(i), random_mask(i + 9)) for i, name in enumerate("abc")]
    images.append(("d", random_mask(5), random_mask(5)))
    run_batch(ScoreJournal(tmp_path / "masks", []), *images)
    details = detail_lines(choose_lines(tmp_path / "masks", "abcd"), CLASSES)["sams"]
    assert (
        details["confusion"]
        == sum(count_confusion(mask, truth, 3) for _, mask, truth in images).tolist()
    )
    counts = sum(count_boundaries(mask, truth, 3) for _, mask, truth in images)
    expected = (counts[:, 0] / counts[:, 1]).tolist()
    assert list(details["boundary_iou"].values()) == pytest.approx(expected)
    assert details["mean_boundary_iou"] == pytest.approx(sum(expected) / 3)
    mious = {
        name: summarise_confusion(count_confusion(mask, truth, 3), "xyz").miou
        for name, mask, truth in images
    }
    assert list(details["worst_images"].items()) == sorted(mious.items(), key=lambda item: item[1])

    scores = score_lines(choose_lines(tmp_path / "masks", "abcd"), CLASSES)
    write_scores(tmp_path / "scores.json", "network", "val", scores, {"sams": details})
    print_scores(tmp_path / "scores.json")
    assert f"{100 * sum(expected) / 3:.1f}" in (out := capsys.readouterr().out)
    assert f"worst images of network, val, sams (mIoU): {min(mious, key=mious.get)} " in out

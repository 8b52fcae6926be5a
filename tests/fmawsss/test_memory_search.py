"""Fast searches in a memory, beside the plain one."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from fmawsss.memory import MemoryReader, Neighbours, RegionMemory, build_memory
from fmawsss.memory_index import build_index
from fmawsss.memory_search import GROUP, Question, find_best, find_together

CLASSES = 4


def draw(images: int, seed: int = 0) -> tuple[RegionMemory, list[Question]]:
    """Draw images of 0 to 11 superpixels; in the last class stands one image alone."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(images, CLASSES, generator=generator) < 0.4
    labels[:, -1] = False
    labels[images // 2, -1] = True
    labels[0] = False
    counts = torch.randint(0, 12, (images,), generator=generator).tolist()
    drawn = [torch.randn(count, 16, generator=generator) for count in counts]
    keys = [F.normalize(part, dim=1).half().float() for part in drawn]
    values = [torch.rand(count, CLASSES + 1, generator=generator) for count in counts]
    memory = build_memory(keys, values, list(labels))
    return memory, [Question(*parts) for parts in zip(keys, labels, range(images), strict=True)]


def find_plainly(
    questions: list[Question], memory: RegionMemory, reader: MemoryReader
) -> list[Neighbours]:
    return [reader.find(q.keys, q.labels, memory, q.image) for q in questions]


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("neighbours", [1, 5, 1000])
@pytest.mark.parametrize("least", [1, 8])
def test_many_images_together_find_what_each_finds_alone(block, neighbours, least):
    reader = MemoryReader(neighbours=neighbours, least=least)
    memory, questions = draw(30)
    strangers = [Question(q.keys, q.labels, None) for q in draw(5, seed=1)[1]]
    questions = [*questions, *strangers]
    together = find_together(questions, memory, reader, block)
    alone = find_plainly(questions, memory, reader)
    assert any(found.rows.numel() == 0 for found in alone)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.rows, other.rows)
        torch.testing.assert_close(one.cosines, other.cosines)


@pytest.mark.parametrize("columns", [5, 2 * GROUP * 3, 2 * GROUP * 3 + 7, 4000])
def test_best_of_groups_are_the_best_of_all(columns):
    cosines = torch.randn(6, columns, generator=torch.Generator().manual_seed(0))
    found, places = find_best(cosines, 3)
    expected = cosines.topk(3, dim=1)
    assert torch.equal(found, expected.values)
    assert torch.equal(places, expected.indices)


def test_an_index_finds_most_of_them():
    pytest.importorskip("faiss")
    memory, questions = draw(400)
    index = build_index(memory, 100)
    assert index.index.nlist > 16
    reader, shared, total = MemoryReader(neighbours=5), 0, 0
    for question, exact in zip(questions, find_plainly(questions, memory, reader), strict=True):
        found = index.find(question, reader)
        allowed = memory.select_sharing(question.labels, question.image)
        for row, cosine, key in zip(found.rows, found.cosines, question.keys, strict=True):
            assert allowed[row[row >= 0]].all()
            held = torch.from_numpy(memory.keys[row[row >= 0]])
            torch.testing.assert_close(cosine[row >= 0], held @ key)
        for row, right in zip(found.rows, exact.rows, strict=True):
            shared += int(torch.isin(right, row).sum())
            total += len(right)
    assert 0.3 < shared / total < 1


def test_an_index_without_faiss_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r"\[index\].*memory.exact_up_to=null"):
        build_index(draw(3)[0], 10)

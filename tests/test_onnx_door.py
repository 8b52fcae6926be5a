"""A trained network as an ONNX file, through the front door, beside our own answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_trees import draw_image
from front_door import run
from network_tools import learn_few

import infer
from fmawsss.networks.segmenter import Segmenter
from fmawsss.tiny.shapes import CLASS_NAMES


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The outputs of a network that learned from true masks for a few steps."""
    return learn_few(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Path:
    return trained / "shapes" / "network.ckpt"


def test_onnx_labels_images_of_any_size(trained, checkpoint, tmp_path, monkeypatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    there = [f"paths.outputs={trained}", f"job.path={tmp_path}/network.onnx"]
    run(infer.main, monkeypatch, "task=export", *there)
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert classes == ["background", *CLASS_NAMES]
    segmenter, shown, equal = Segmenter.from_checkpoint(checkpoint), set(), []
    sizes = np.random.default_rng(0).integers(20, 300, (20, 2))
    for index, (height, width) in enumerate(sizes):
        image = draw_image(index, (int(height), int(width)))
        (labels,) = session.run(None, {"images": np.stack([image] * (1 + index % 2))})
        assert labels.shape == (1 + index % 2, height, width)
        equal.append((labels[-1] == segmenter.predict([image])[0].mask).ravel())
        shown |= set(np.unique(labels).tolist())
    assert len(shown) > 1
    assert np.concatenate(equal).mean() >= 0.995
    run(infer.main, monkeypatch, "task=export", *there, "job.dynamic=false", "job.size=[40,56]")
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == [1, 40, 56, 3]
    image = draw_image(0, (40, 56))
    (labels,) = session.run(None, {"images": image[None]})
    assert (labels[0] == segmenter.predict([image])[0].mask).mean() >= 0.995


def test_onnx_answers_as_the_network(trained, checkpoint, tmp_path, monkeypatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    there = [f"paths.outputs={trained}", f"job.path={tmp_path}/network.onnx", "job.size=[64,80]"]
    run(infer.main, monkeypatch, "task=export", "format=onnx_probabilities", *there)
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    facts = {key: json.loads(value) for key, value in metadata.items()}
    assert facts["classes"] == ["background", *CLASS_NAMES]
    segmenter = Segmenter.from_checkpoint(checkpoint)
    assert np.allclose(facts["image_mean"], [0.48145466, 0.4578275, 0.40821073])
    for index, size in enumerate([(64, 80), (33, 47), (112, 96), (8, 8)]):
        image = draw_image(index, size)
        seen = segmenter.normalise(image).transpose(2, 0, 1)[None]
        by_hand = (image / 255 - facts["image_mean"]) / facts["image_std"]  # as the docs say
        np.testing.assert_allclose(by_hand.transpose(2, 0, 1)[None], seen, atol=1e-5)
        (answer,) = session.run(None, {"images": np.concatenate([seen] * (index + 1))})
        with torch.no_grad():
            expected = segmenter.network(torch.from_numpy(seen)).softmax(1).numpy()
        assert answer.shape == (index + 1, 9, *size)
        assert np.abs(answer - expected).max() < 1e-4


@pytest.mark.parametrize("form", ["onnx", "onnx_probabilities"])
def test_a_file_that_fails_at_another_size_says_what_to_do(
    form, trained, checkpoint, tmp_path, monkeypatch
) -> None:
    """As Mask2Former's does, whose windows are cut for one size: the runtime has no remedy."""
    pytest.importorskip("onnxruntime")

    def fail(*_: object) -> float:
        raise RuntimeError("Attempting to broadcast an axis by a dimension other than 1. 84 by 126")

    monkeypatch.setattr("fmawsss.networks.onnx.compare_labels", fail)
    monkeypatch.setattr("fmawsss.networks.onnx.compare_answers", fail)
    there = [f"paths.outputs={trained}", f"job.path={tmp_path}/network.onnx", "job.size=[32,48]"]
    with pytest.raises(ValueError, match=r"set job.dynamic=false .*: .*84 by 126"):
        run(infer.main, monkeypatch, "task=export", f"format={form}", *there)
    assert not (tmp_path / "network.onnx").exists()

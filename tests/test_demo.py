"""The demo page: what it computes, and the same over HTTP."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from front_door import ROOT, run
from PIL import Image

import infer
import stages.demo.page as demo_page
from fmawsss.files.png import read_mask
from fmawsss.tiny.shapes import CLASS_NAMES
from stages.demo.analyst import HANDWRITTEN, Analyst

HOSTS = ["localhost", "127.0.0.1", "127.0.0.1"]
BROWSER = {
    "QT_QPA_PLATFORM": "offscreen",
    "QT_QUICK_BACKEND": "software",
    "QTWEBENGINE_DISABLE_SANDBOX": "1",
    "QTWEBENGINE_CHROMIUM_FLAGS": "--no-sandbox --disable-gpu",
}


def open_analyst(outputs: Path, monkeypatch) -> Analyst:
    """What `infer.py task=demo` would serve; its record lies apart from what other tests read."""
    analysts = []

    def keep(
        builders, handwritten, checkpoints, resize, normalise, host, port, hosts, max_megapixels
    ):
        assert (host, list(hosts), max_megapixels) == ("127.0.0.1", HOSTS, 25)
        analysts.append(Analyst(builders, handwritten, checkpoints, resize, normalise))

    quick = ["stages.superpixels.module.generator.points_per_side=4", f"paths.outputs={outputs}"]
    quick.append(f"hydra.run.dir={outputs.parent.with_name('demo_run')}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_page, "serve_demo", keep)
        run(infer.main, monkeypatch, "task=demo", *quick)
    return analysts[0]


@pytest.fixture
def image(finished) -> np.ndarray:
    with Image.open(next((finished / "data/shapes-0/JPEGImages").glob("train*.jpg"))) as picture:
        return np.array(picture.convert("RGB"))


def test_everything_learned_is_shown(finished, image, monkeypatch) -> None:
    analyst = open_analyst(finished / "outputs", monkeypatch)
    assert (analyst.prompts, analyst.classes, analyst.note) == (
        ["seg", "cls", HANDWRITTEN],
        list(CLASS_NAMES),
        "",
    )
    found = analyst.analyse(image, ["circle", "moon"], "seg")
    seed, mask = (read_mask(Path(file)) for file in found.files)
    assert [Path(file).name for file in found.files] == ["image_seed.png", "image_network.png"]
    assert mask.shape == image.shape[:2]
    assert (mask == analyst.segmenter.predict([image])[0].mask).all()
    assert (seed == found.layers["seed"].mask).all()
    assert [name for _, name in found.cams] == ["circle", "moon"]
    lines = [line.partition(": ") for line in found.areas.splitlines()]
    assert [kind for kind, _, _ in lines] == ["seed", "network"]
    shares = [float(share) for share in re.findall(r"([\d.]+) %", lines[1][2])]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    plain, full = (found.layers["network"].draw(image, opacity) for opacity in (0.0, 1.0))
    assert plain.shape == full.shape
    assert (plain == full).all() == (not mask.any())
    examples = analyst.list_examples()
    assert len(examples) == 4
    assert all(
        Path(file).is_file() and set(labels) <= set(CLASS_NAMES) for file, labels in examples
    )
    assert not (found.superpixels == found.superpixels[0, 0]).all()
    with pytest.raises(ValueError, match="do not know spoon: choose hand-written"):
        analyst.analyse(image, ["spoon"], "cls")
    for nothing in ((None, ["circle"]), (image, [])):
        with pytest.raises(ValueError, match="at least one label"):
            analyst.analyse(*nothing, HANDWRITTEN)


def test_handwritten_prompts_work_without_any_training(image, tmp_path, monkeypatch) -> None:
    analyst = open_analyst(tmp_path, monkeypatch)
    assert (analyst.prompts, analyst.classes) == ([HANDWRITTEN], [])
    assert "Not trained yet: cls" in analyst.note
    found = analyst.analyse(image, ["circle", "star"], HANDWRITTEN)
    assert list(found.layers) == ["seed"]
    assert len(analyst.list_examples()) == 4
    mask = read_mask(Path(found.files[0]))
    assert set(np.unique(mask)) <= {0, 1, 2}

    # Another visitor's mask is another file
    analyst.analyse(image[:, ::-1].copy(), ["moon"], HANDWRITTEN)
    assert (read_mask(Path(found.files[0])) == mask).all()
    with pytest.raises(ValueError, match="no name of a class"):
        analyst.analyse(image, ["a\nb"], HANDWRITTEN)


@pytest.fixture
def page(finished, monkeypatch):
    """The served page, on a port that is free, and what is behind it."""
    gradio = pytest.importorskip("gradio")
    analyst = open_analyst(finished / "outputs", monkeypatch)
    page = demo_page.build_page(gradio, analyst, max_megapixels=1)
    demo_page.open_page(gradio, page, "127.0.0.1", None, HOSTS, wait=False)
    yield page.local_url, analyst
    page.close()
    del page
    # sockets that Gradio leaves open complain here, where it is expected, and not in a later test
    gc.collect()


# Gradio and its server libraries announce changes to come
@pytest.mark.filterwarnings("ignore")
def test_the_page_answers_over_http(page, image, tmp_path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    address, analyst = page
    with urllib.request.urlopen(address) as answer:
        assert "fonts.googleapis.com" not in answer.read().decode()
    Image.fromarray(image).save(tmp_path / "image.png")
    client = gradio_client.Client(address, verbose=False)
    upload = gradio_client.handle_file(str(tmp_path / "image.png"))
    words = ["circle"], "", "cls", 0.5
    *pictures, files, areas = client.predict(upload, *words, api_name="/segment")
    assert [Path(file).name for file in files] == ["image_seed.png", "image_network.png"]
    shutil.copy(files[1], tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == analyst.segmenter.predict([image])[0].mask).all()
    assert len(pictures) == 4
    assert [cam["caption"] for cam in pictures[1]] == ["circle"]
    assert "network: " in areas
    with pytest.raises(Exception, match="at least one label"):
        client.predict(upload, [], "", "cls", 0.5, api_name="/segment")

    # A small file of many pixels is refused by its head
    Image.new("1", (1001, 1000)).save(tmp_path / "large.png")
    upload = gradio_client.handle_file(str(tmp_path / "large.png"))
    with pytest.raises(Exception, match="1001 x 1000 pixels, more than 1 million"):
        client.predict(upload, *words, api_name="/segment")


@pytest.mark.filterwarnings("ignore")
def test_the_page_answers_to_its_own_names_only(page) -> None:
    port = int(page[0].rstrip("/").rpartition(":")[2])
    answers = {}
    for name in ("127.0.0.1", "localhost", "evil.example"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/config", headers={"Host": f"{name}:{port}"})
        answers[name] = connection.getresponse().status
        connection.close()
    assert answers == {"127.0.0.1": 200, "localhost": 200, "evil.example": 400}


@pytest.mark.filterwarnings("ignore")
def test_the_page_works_in_a_browser(page, image, tmp_path) -> None:
    pytest.importorskip(
        "PySide6.QtWebEngineWidgets",
        reason="no browser: pip install 'PySide6<6.12'",
        exc_type=ImportError,
    )
    Image.fromarray(image).save(tmp_path / "image.png")
    command = [
        sys.executable,
        str(ROOT / "tests/browser_demo.py"),
        page[0],
        str(tmp_path / "image.png"),
    ]
    done = subprocess.run(
        command, env={**os.environ, **BROWSER}, capture_output=True, text=True, timeout=180
    )
    found = json.loads(done.stdout)
    assert found == {"pictures": 5, "examples": 4, "hosts": ["127.0.0.1"]}

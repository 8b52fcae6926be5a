"""`infer.py task=serve` through the door, and as a process that a signal ends; the page's lines."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from front_door import ROOT, run
from serving_tools import draw_half, encode, open_server
from starlette.testclient import TestClient

import infer
from fmawsss.files.png import read_mask
from fmawsss.networks.segmenter import Segmenter
from stages.exports.labelstudio import describe_brush
from stages.serve.start import bind

PAGE = (ROOT / "docs/serve.md").read_text()
CURL = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)


@pytest.fixture
def photo(finished: Path) -> Path:
    return sorted((finished / "data").glob("*/JPEGImages/*.jpg"))[0]


def list_places(finished: Path) -> list[str]:
    """Where the finished pipeline lies; what a job writes of itself lies apart."""
    return [f"paths.outputs={finished}/outputs", f"hydra.run.dir={finished.with_name('serve_run')}"]


def test_the_door_serves_the_network(finished: Path, photo: Path, monkeypatch) -> None:
    answers = []

    def ask(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        client = TestClient(server.config.app)
        answers.append(client.post("/predict?as=json", content=photo.read_bytes()).json())

    monkeypatch.setattr(uvicorn.Server, "run", ask)
    words = ["task=serve", f"job.port={find_port()}", "job.hosts=[testserver]"]
    run(infer.main, monkeypatch, *words, *list_places(finished))
    (found,) = Segmenter.from_checkpoint(finished / "outputs/shapes/network.ckpt").predict([photo])
    assert {a["class"]: a["pixels"] for a in answers[0]["areas"]} == found.areas


def find_port() -> int:
    """Find a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_what_cannot_be_served_is_said_before_anything_is_loaded(finished, monkeypatch) -> None:
    monkeypatch.delenv("FMAWSSS_TOKEN", raising=False)
    places = list_places(finished)
    with pytest.raises(ValueError, match=r"job\.host=0\.0\.0\.0 lets other machines in"):
        run(infer.main, monkeypatch, "task=serve", "job.host=0.0.0.0", *places)
    with pytest.raises(FileNotFoundError, match=r"job\.images=none: no such folder"):
        run(infer.main, monkeypatch, "task=serve", "job.images=none", *places)
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"job.port={port} cannot be served at"):
            run(infer.main, monkeypatch, "task=serve", f"job.port={port}", *places)
    with pytest.raises(FileNotFoundError, match="no checkpoint of stage network"):
        run(infer.main, monkeypatch, "task=serve", "ckpt=none.ckpt", *places)


@pytest.fixture
def server(finished: Path, tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen, Path]]:
    """A server in a process of its own, and its log."""
    port, log = find_port(), tmp_path / "log"
    words = ["task=serve", f"job.port={port}", *list_places(finished)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as file:
        command = [sys.executable, str(ROOT / "infer.py"), *words]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    deadline = time.monotonic() + 120
    while "serving at" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield port, process, log
    process.kill()
    process.wait()


def test_a_process_answers_the_lines_of_the_page(server, photo, finished, tmp_path) -> None:
    port, process, log = server
    assert len(CURL) == 5
    shutil.copy(photo, tmp_path / "photo.jpg")
    (expected,) = Segmenter.from_checkpoint(finished / "outputs/shapes/network.ckpt").predict(
        [photo]
    )
    if shutil.which("curl"):
        for line in CURL:
            line = line.replace(":8000", f":{port}").replace("curl ", "curl -sS --fail ")
            done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, timeout=60)
            assert done.returncode == 0, (line, done.stderr)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected.mask)

    # It does not end before what it began, ends by a signal, and says nothing of what it saw
    answer = httpx.post(f"http://127.0.0.1:{port}/predict?as=json", content=photo.read_bytes())
    assert {a["class"]: a["pixels"] for a in answer.json()["areas"]} == expected.areas
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    told = log.read_text()
    assert "8 classes: circle, square" in told
    assert "Traceback" not in told
    assert told.endswith("stopped by SIGINT; the same command goes on\n")
    assert photo.stem not in told


def test_what_flows_back_is_read_as_corrections(tmp_path, monkeypatch) -> None:
    drawn = draw_half()[:, :, 0] > 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(encode(draw_half()))
    with open_server(tmp_path) as client:
        task = {"id": 4, "data": {"image": "/data/local-files/?d=photos/a.png"}}
        annotation = {"id": 9, "result": [describe_brush("x", "cat", drawn)]}
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "task": task}
        event["annotation"] = annotation
        assert client.post("/label-studio/webhook", json=event).json()["kept"] == 1
    words = ["task=corrections", "dataset=folder", f"dataset.root={tmp_path}/photos"]
    words += [
        "dataset.classes=[cat]",
        f"corrected={tmp_path}/kept",
        f"paths.outputs={tmp_path}/out",
    ]
    run(infer.main, monkeypatch, *words)
    np.testing.assert_array_equal(read_mask(tmp_path / "out/folder/corrected/a.png"), drawn)

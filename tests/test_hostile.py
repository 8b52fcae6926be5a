"""Files of someone who means harm: they run nothing, reach nothing, and write nowhere else.

The kinds of bad input one by one, with what is said of each, are in `tests/slow/bad_inputs`.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import pickle
import socket
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from front_door import ROOT, run
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

import infer
import train
from datamodules.images import check_inner_path
from datamodules.label_files import LabelsFromFile
from datamodules.labels import LabelsFromXml, LabelSource
from datamodules.sources import extract_frames, index_files
from fmawsss.clip.weights import load_open_clip
from fmawsss.files import storage
from fmawsss.files.released_contexts import load_released_context
from fmawsss.files.storage import read_cams, read_superpixels
from fmawsss.files.tensor_files import read_tensors
from fmawsss.networks.checkpoints import (
    build_network,
    choose_builder,
    describe_network,
    read_checkpoint,
)
from fmawsss.networks.segmenter import Segmenter
from fmawsss.viz import make_palette
from stages.demo.page import read_upload
from stages.jobs.archives import unpack_folder
from stages.training_files import find_last_step

HARM = "${oc.create:{_target_: os.mkdir, path: made}}"
NAMES = ["${oc.env:HOME}", "???", HARM, "[/red]", "[bold]cat", "<script>alert(1)</script>", ":cat:"]
PACKAGES = ("fmawsss", "datamodules", "lightning_modules", "callbacks", "stages", "conf")
READERS = (".load", ".loads", "loadmat", "_load", "import_module", ".system", ".run_module")
READERS += ("subprocess.run", "Popen", ".Unpickler")
SAFE = {"weights_only=True", "allow_pickle=False"}
FORBIDDEN = {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib", "subprocess", "runpy"}


class Harm:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made",)


@pytest.fixture(autouse=True)
def closed(tmp_path, monkeypatch):
    """No connection can be opened; nothing named `made` is there in the end."""
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection was opened: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not (tmp_path / "made").exists()


def find_calls(path: Path) -> set[str]:
    """List the calls in a module that could run what they read, with what makes them safe."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "json.loads":
            name = ast.unparse(node.func)
            alone = name in ("eval", "exec", "__import__", "Unpickler", "Popen")
            if alone or name.endswith(READERS):
                words = {f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords}
                found.add(" ".join([name, *sorted(words & SAFE)]))
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {getattr(node, "module", None)}
            found.update(f"import {name}" for name in names & FORBIDDEN)
    return found


def test_every_reader_of_files_is_a_safe_one() -> None:
    """What is called to read files; a new reader is entered here once it is understood."""
    files = [*ROOT.glob("*.py"), *(f for name in PACKAGES for f in (ROOT / name).rglob("*.py"))]
    assert {call for file in files for call in find_calls(file)} == {
        "OmegaConf.load",  # of our own options: YAML without tags
        "torch.load weights_only=True",
        "np.load allow_pickle=False",
        "torch.jit.load",  # of files that OpenAI published, known by their digests
        "loadmat",  # MATLAB's files hold numbers and text
        "file.load",  # of a picture that Pillow opened
        "picture.load",  # the same
        "import pickle",  # the name of an error, and the reader that knows a closed list of names
        "PlainReader(file, encoding='latin1').load",
        "import subprocess",  # git, for the record of a run
        "subprocess.run",
        "orjson.loads",  # of JSON, which holds plain values
        "import_module",  # of a name in our code
        "import marshal",
        "marshal.loads",  # of lines that this process packed
        "import runpy",  # our own two programs, where they are installed
    }


def save_network(folder: Path, **carried: Any) -> Path:
    """Save a small network whose checkpoint says other things than it should."""
    clip = {"_target_": "fmawsss.tiny.models.tiny_clip"}
    node = {"_target_": "fmawsss.networks.towers.TowerNetwork", "clip": clip, "width": 16}
    resize = {"_target_": "fmawsss.resizing.AlignToPatch", "patch": 8}
    said = describe_network(node, resize, [0.5] * 3, [0.2] * 3)
    classes = carried.pop("classes", NAMES)
    palette = make_palette(len(classes) + 1).tolist()
    content = {"version": 2, "classes": classes, "palette": palette, "carried": {**said, **carried}}
    torch.save({**content, "state_dict": {}}, folder / "network.ckpt")

    # its weights
    if not carried:
        build = choose_builder(read_checkpoint(folder / "network.ckpt"))
        network = build(classes=len(classes) + 1)
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        torch.save({**content, "state_dict": state}, folder / "network.ckpt")
    return folder / "network.ckpt"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Photos in a folder whose name is markup that never ends, and their truths."""
    for place, values in (("photos", 256), ("truths", 3)):
        (tmp_path / place / "a[").mkdir(parents=True)
        for number in range(2):
            shape = (32, 32, 3) if values > 3 else (32, 32)
            noise = np.random.default_rng(number).integers(0, values, shape, np.uint8)
            Image.fromarray(noise).save(tmp_path / place / "a[" / f"{number}.png")
    return tmp_path / "photos"


def test_names_of_a_checkpoint_are_only_shown(photos, tmp_path, monkeypatch, capsys) -> None:
    ckpt = save_network(tmp_path)
    monkeypatch.setenv("HOME", "a secret")
    words = ["task=network", "dataset=folder", f"dataset.root={photos}", f"ckpt={ckpt}"]
    words += [f"dataset.masks={tmp_path}/truths", "loading.workers=0", "logger=none"]
    run(infer.main, monkeypatch, *words, f"paths.outputs={tmp_path}/outputs")

    # The table on the terminal, the scores and the report show the very names
    shown = capsys.readouterr().out
    scores = json.loads((tmp_path / "outputs/folder/scores.json").read_text(encoding="utf-8"))
    assert list(scores["network"]["all"]["network"]["iou"]) == ["background", *NAMES]
    assert all(name[:20] in shown for name in NAMES)
    assert "a[/0" in shown
    assert "a secret" not in shown
    page = (tmp_path / "outputs/folder/report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_names_of_a_label_file_are_only_read(photos, tmp_path, monkeypatch) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "labels"), ("a[/0", ";".join(NAMES)), ("a[/1", "x")])
    words = ["task=cls", "dataset=folder", f"dataset.root={photos}", "dataset/labels=file"]
    words += [f"dataset.labels.path={tmp_path}/labels.csv", "clip=tiny", "sam=superpixels_classic"]
    words += ["loading.workers=0", "logger=none", f"paths.outputs={tmp_path}/outputs"]
    run(infer.main, monkeypatch, "task=superpixels", *words[1:], "report=none")
    learning = ["learn=all", "loop.max_steps=1", "loop.precision=32-true", "report=none"]
    run(train.main, monkeypatch, *words, *learning)
    content = torch.load(tmp_path / "outputs/folder/cls.ckpt", weights_only=True)
    assert set(content["classes"]) == {*NAMES, "x"}


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.mkdir", "path": "made"},
        {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.mkdir", "path": "made"}},
        {"_target_": "fmawsss.networks.towers.TowerNetwork", "clip": {"_target_": "os.mkdir"}},
        {"_target_": "fmawsss.networks.towers.TowerNetwork", "clip": HARM, "width": 16},
        {
            "_target_": "fmawsss.networks.library.build_on_smp_encoder",
            "decoder": {"_target_": "segmentation_models_pytorch.Unet"},
            "encoder": "tu-hf-hub:someone/something",
        },
        {
            "_target_": "fmawsss.networks.library.build_on_timm_encoder",
            "decoder": {"_target_": "segmentation_models_pytorch.Unet"},
            "encoder": "local-dir:/tmp",
            "settings": {},
        },
    ],
)
def test_a_checkpoint_chooses_no_code_and_no_place(node, tmp_path) -> None:
    path = save_network(tmp_path, network=node)
    with pytest.raises(ValueError, match=r"network\.ckpt: the checkpoint"):
        Segmenter.from_checkpoint(path)


@pytest.mark.parametrize("encoder", ["build_on_smp_encoder", "build_on_timm_encoder"])
def test_a_listed_network_fetches_no_weights(encoder, tmp_path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    timm = {"settings": {}} if "timm" in encoder else {}
    decoder = {"_target_": "segmentation_models_pytorch.Unet"}
    node = {"_target_": f"fmawsss.networks.library.{encoder}", "decoder": decoder, **timm}
    path = save_network(tmp_path, network={**node, "encoder": "resnet18"})
    with pytest.raises(ValueError, match="its weights belong to another network"):
        build_network(read_checkpoint(path))  # built, without any


@pytest.mark.parametrize("read", ["tensors", "contexts", "network", "cams", "superpixels"])
def test_no_reader_unpickles(read, tmp_path) -> None:
    readers = {
        "tensors": lambda path: read_tensors(path, "delete it"),
        "contexts": load_released_context,
        "network": read_checkpoint,
        "cams": read_cams,
        "superpixels": read_superpixels,
    }
    (tmp_path / "raw").write_bytes(pickle.dumps(Harm()))
    torch.save({"state_dict": {}, "x": Harm()}, tmp_path / "saved")
    np.savez(tmp_path / "packed.npz", cam=np.array([Harm()], object))
    np.save(tmp_path / "array.npy", np.array([Harm()], object))
    for name in ("raw", "saved", "packed.npz", "array.npy"):
        with pytest.raises(ValueError, match=name):
            readers[read](tmp_path / name)


def test_weights_of_clip_do_not_unpickle(tmp_path) -> None:
    torch.save({"state_dict": {}, "x": Harm()}, tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"mine\.pt holds no whole weights"):
        load_open_clip("ViT-B-32", "mine.pt", str(tmp_path))


def test_a_small_archive_stays_small(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes(1 << 24))
    with pytest.raises(ValueError, match="would unpack to 16777216 bytes"):
        read_tensors(tmp_path / "bomb.ckpt", "delete it")


def test_an_archive_of_arrays_stays_small(tmp_path, monkeypatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", cam=np.zeros((1, 1000, 1000)), classes=[0])
    monkeypatch.setattr(storage, "LARGEST_ARCHIVE", 1 << 20)
    with pytest.raises(ValueError, match=r"bomb\.npz .*it would unpack to 8000\d+ bytes"):
        read_cams(tmp_path / "bomb.npz")


def test_an_uploaded_image_is_measured_before_it_is_decoded(tmp_path, monkeypatch) -> None:
    Image.new("1", (1001, 1000)).save(tmp_path / "large.png")
    with monkeypatch.context() as patch:
        patch.setattr(PngImageFile, "load", None)
        with pytest.raises(ValueError, match="1001 x 1000 pixels"):
            read_upload(tmp_path / "large.png", max_megapixels=1)
    assert read_upload(tmp_path / "large.png", max_megapixels=2).shape == (1000, 1001, 3)


def test_a_playlist_is_no_video(tmp_path) -> None:
    (tmp_path / "film.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n")
    with pytest.raises(ValueError, match=r"film\.mp4 is no video"):
        extract_frames(tmp_path / "film.mp4", tmp_path / "made", 1)


OUTSIDE = [
    "/etc/x.jpg",
    "../x.jpg",
    "a/../../x.jpg",
    "C:/x.jpg",
    "C:x.jpg",
    "a\\..\\x.jpg",
    "",
    "/",
]


@pytest.mark.parametrize("name", [*OUTSIDE, "a\0.jpg", "a\n.jpg", "\ud800.jpg", "a" * 300])
def test_names_of_files_lead_nowhere_else(name, tmp_path) -> None:
    with pytest.raises(ValueError, match="the list is"):
        check_inner_path(name, "the list")


def test_lists_of_images_give_names_below_a_folder(tmp_path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / place / f"{place}.png")
    (tmp_path / "here/list.txt").write_text("../there/there.png\nhere.png\n")
    assert sorted(index_files(tmp_path / "here/list.txt")) == ["here/here", "there/there"]
    pattern = tmp_path / "here/../*/there.png"
    assert sorted(index_files(pattern)) == ["there/there"]


def test_labels_of_names_elsewhere_are_lost(tmp_path) -> None:
    (tmp_path / "labels.csv").write_text("name,labels\n../../etc/passwd,cat\na,cat\n")
    source = LabelSource({"cat": 0}, {}, None)
    found = LabelsFromFile(tmp_path / "labels.csv")(["a"], source)
    assert found == {"a": (0,), "../../etc/passwd": (0,)}


@pytest.mark.parametrize("entity", ['"ha"', 'SYSTEM "file:///etc/hostname"'])
def test_annotations_define_nothing(entity, tmp_path) -> None:
    text = f"<!DOCTYPE a [<!ENTITY x {entity}>]><a><object><name>&x;</name></object></a>"
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.xml.*declares a document type"):
        LabelsFromXml(difficult=True)(["a"], LabelSource({"ha": 0}, {}, tmp_path))


@pytest.mark.parametrize("kind", ["climbing", "absolute", "link"])
def test_archives_unpack_below_their_folder(kind, tmp_path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        name = {"climbing": "../../made", "absolute": str(tmp_path / "made"), "link": "in/x"}[kind]
        entry = tarfile.TarInfo(name)
        if kind == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(entry, io.BytesIO())
    with pytest.raises(ValueError, match=r"a\.tar (cannot be unpacked|holds no folder in)"):
        unpack_folder(tmp_path / "a.tar", "in", tmp_path / "out" / "in")
    assert not (tmp_path / "out" / "in").exists()


def test_a_training_goes_on_from_whole_checkpoints_only(tmp_path) -> None:
    content = {"state_dict": {"x": torch.ones(2)}, "optimizer_states": [], "loops": {}}
    changes = {
        "step_000001": {},
        "step_000002": {"harm": Harm()},
        "step_000003": {"state_dict": {"x": torch.tensor([1.0, float("nan")])}},
        "step_000004": {"global_step": "4"},
        "stopped_000005": {"optimizer_states": None},
    }
    for name, change in changes.items():
        torch.save({**content, "global_step": 1, **change}, tmp_path / f"{name}.ckpt")
    assert find_last_step(tmp_path) == tmp_path / "step_000001.ckpt"
    assert len(list(tmp_path.glob("*.broken"))) == 4

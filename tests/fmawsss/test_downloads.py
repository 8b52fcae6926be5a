"""Published weights are found, fetched or asked for by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import sleep
from urllib.error import URLError

import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from fmawsss.files import downloads
from fmawsss.sam.generator import load_sam
from fmawsss.tiny.models import SamArchitecture, build_sam

SMALL = SamArchitecture(
    image_size=16, width=8, depth=1, heads=1, global_blocks=(), prompt_width=16, decoder_heads=1
)


def build_small() -> Sam:
    return build_sam(SMALL)


def test_official_checkpoints_are_loaded_from_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sam_model_registry, "vit_l", build_small)
    weights = {
        name: torch.zeros_like(tensor) for name, tensor in build_small().state_dict().items()
    }
    torch.save(weights, tmp_path / "sam_vit_l_0b3195.pth")
    sam = load_sam("vit_l", str(tmp_path))
    assert not sam.training
    assert not any(tensor.any() for tensor in sam.state_dict().values())

    torch.save({"weights": Path()}, tmp_path / "sam_vit_l_0b3195.pth")
    with pytest.raises(ValueError, match=r"sam_vit_l_0b3195\.pth is no checkpoint of SAM vit_l"):
        load_sam("vit_l", tmp_path)
    with pytest.raises(
        ValueError, match="no SAM is called 'vit_x': choose one of vit_b, vit_l, vit_h"
    ):
        load_sam("vit_x", tmp_path)


def test_without_network_the_error_names_address_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str, timeout: float) -> None:
        assert timeout <= 5
        raise URLError("no network")

    monkeypatch.setattr(downloads, "urlopen", fail)
    message = r"weights/sam_vit_h_4b8939\.pth.*no network.*https://dl\.fbaipublicfiles\.com/segment_anything/sam_vit_h_"
    with pytest.raises(FileNotFoundError, match=message):
        load_sam("vit_h", tmp_path / "weights")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="weights is a file where its folder should be"):
        downloads.fetch_file(tmp_path / "weights" / "model" / "w.pt", "https://example.org/w.pt")


def test_files_are_fetched_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "weights" / "file.pth"
    source.write_bytes(b"weights")
    assert downloads.fetch_file(target, source.as_uri()).read_bytes() == b"weights"
    source.unlink()
    assert downloads.fetch_file(target, source.as_uri()) == target

    class Cut(BytesIO):
        headers = {"Content-Length": "100"}  # noqa: RUF012
        status = 200
        url = "http://some.where/other.pth"

    monkeypatch.setattr(downloads, "urlopen", lambda url, timeout: Cut(b"half"))
    with pytest.raises(FileNotFoundError, match="the connection ended after 4 of 100 bytes"):
        downloads.fetch_file(tmp_path / "other.pth", Cut.url)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_file_with_another_digest_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").write_bytes(b"weights")
    url, right = (tmp_path / "source").as_uri(), sha256(b"weights").hexdigest()
    with pytest.raises(FileNotFoundError, match=f"the SHA-256 {right}, expected {'0' * 64}"):
        downloads.fetch_file(tmp_path / "a.pth", url, "0" * 64)
    assert not (tmp_path / "a.pth").exists()
    downloads.fetch_file(tmp_path / "a.pth", url, right)
    assert "a.pth" in capsys.readouterr().out  # the progress bar


def test_what_cannot_be_checked_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"weights")
    (tmp_path / "a.pth.part").write_bytes(b"some other weights")
    downloads.fetch_file(tmp_path / "a.pth", (tmp_path / "source").as_uri())
    assert (tmp_path / "a.pth").read_bytes() == b"weights"
    assert {path.name for path in tmp_path.iterdir()} == {"source", "a.pth"}


def test_processes_that_need_one_file_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"weights")
    url, written = (tmp_path / "source").as_uri(), []
    write = downloads.write_rest
    monkeypatch.setattr(
        downloads, "write_rest", lambda *more: (written.append(1), sleep(0.2), write(*more))
    )
    with ThreadPoolExecutor() as pool:
        fetched = [pool.submit(downloads.fetch_file, tmp_path / "a.pth", url) for _ in range(3)]
    assert {future.result().read_bytes() for future in fetched} == {b"weights"}
    assert written == [1]

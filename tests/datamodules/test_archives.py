from __future__ import annotations

import hashlib
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.jobs.archives import Archive, fetch_archive, unpack_folder

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT: from any byte on under /ranges, half of what it promises under /cut."""

    def do_GET(self) -> None:
        place = self.headers.get("Range")
        first = (
            int(place.removeprefix("bytes=").removesuffix("-"))
            if place and "/ranges" in self.path
            else 0
        )
        self.server.asked.append(place)
        if first >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        body = CONTENT[first:]
        self.wfile.write(body[: len(body) // 2] if "/cut" in self.path else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_checked(server, tmp_path: Path) -> None:
    archive = Archive(f"{server.url}/ranges/a.tar", len(CONTENT), MD5)
    assert fetch_archive(archive, tmp_path / "new").read_bytes() == CONTENT
    fetch_archive(archive, tmp_path / "new")
    assert server.asked == [None]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.tar"]


@pytest.mark.parametrize("known", [1, 5000, len(CONTENT)])
def test_a_stopped_download_goes_on(server, tmp_path: Path, known: int) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:known])
    path = fetch_archive(Archive(f"{server.url}/ranges/a.tar", None, MD5), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={known}-"]


def test_a_server_without_ranges_starts_anew(server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"other bytes")
    assert (
        fetch_archive(Archive(f"{server.url}/a.tar", None, MD5), tmp_path).read_bytes() == CONTENT
    )


def test_a_cut_connection_keeps_what_arrived(server, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"a\.tar.*ended after 5120 of 10240 bytes.*what has arrived is kept",
    ):
        fetch_archive(Archive(f"{server.url}/cut/a.tar", len(CONTENT), None), tmp_path)
    path = fetch_archive(Archive(f"{server.url}/ranges/a.tar", len(CONTENT), MD5), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=5120-"]


def test_what_is_another_file_after_all_is_fetched_anew(server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"x" * 100)
    archive = Archive(f"{server.url}/ranges/a.tar", len(CONTENT), MD5)
    with pytest.raises(FileNotFoundError, match=f"expected {MD5}"):
        fetch_archive(archive, tmp_path)
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=100-", None]


def test_without_network_address_and_place_are_named(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/voc.tar"
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/voc\.tar.*download {url} and put it there"
    ):
        fetch_archive(Archive(url, None, None), tmp_path)


@pytest.mark.parametrize(
    ("size", "md5", "message"),
    [(7, None, "has 10240 bytes, expected 7"), (None, "0" * 32, f"MD5 {MD5}, expected 000")],
)
def test_another_file_is_refused(tmp_path: Path, size, md5, message) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    with pytest.raises(ValueError, match=message):
        fetch_archive(Archive("http://127.0.0.1:9/a.tar", size, md5), tmp_path)


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_a_folder_is_unpacked_whole_or_not_at_all(tmp_path: Path, kind: str) -> None:
    (tmp_path / "source/top/inner").mkdir(parents=True)
    (tmp_path / "source/top/inner/a.txt").write_text("a")
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "source/top/inner/a.txt", "top/inner/a.txt")
    else:
        with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as archive:
            archive.add(tmp_path / "source/top", "top")
    unpack_folder(path, "top/inner", tmp_path / "data/target")
    assert [file.name for file in (tmp_path / "data").rglob("*")] == ["target", "a.txt"]
    with pytest.raises(ValueError, match="holds no folder other"):
        unpack_folder(path, "other", tmp_path / "data/second")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack_folder(path, "top/inner", tmp_path / "data/second")
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["target"]

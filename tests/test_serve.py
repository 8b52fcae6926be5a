"""The server: what it answers, what it refuses, who may ask, and how many at once."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from serving_tools import CLASSES, draw_half, encode, open_port, open_server

from stages.serve.guards import read_token

LEFT = np.repeat([[1] * 4 + [0] * 8], 8, 0)  # the mask of `draw_half`
TOKEN = "a-token-of-a-test-that-is-long"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with open_server(tmp_path_factory.mktemp("serve")) as client:
        yield client


def read(content: bytes) -> np.ndarray:
    """Read an indexed PNG's values."""
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "P")
        return np.array(image)


def test_a_mask_comes_back(client) -> None:
    photo = encode(draw_half())
    for sent in ({"content": photo}, {"files": {"image": ("../x.png", photo, "text/html")}}):
        answer = client.post("/predict", **sent)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(read(answer.content), LEFT)


def test_areas_come_back(client) -> None:
    photo = encode(draw_half())
    answer = client.post("/predict", content=photo, headers={"Accept": "application/json"}).json()
    assert (answer["width"], answer["height"], answer["model_version"]) == (12, 8, "bright-1")
    assert [(a["class"], a["pixels"], a["share"]) for a in answer["areas"]] == [
        ("background", 64, 0.666667),
        ("cat", 32, 0.333333),
    ]
    assert answer["areas"][1]["colour"] == [128, 0, 0]
    assert 0.99 < answer["confidence"] <= 1
    assert "mask" not in answer
    both = client.post("/predict?as=both", content=photo).json()
    head, _, mask = both.pop("mask").partition(",")
    assert (both, head) == (answer, "data:image/png;base64")
    np.testing.assert_array_equal(read(base64.b64decode(mask)), LEFT)


def test_classes_and_health(client) -> None:
    assert client.get("/health").json() == {"status": "UP"}
    listed = client.get("/classes").json()["classes"]
    assert [(c["value"], c["class"]) for c in listed] == list(enumerate(CLASSES))
    for page in ("/docs", "/redoc"):  # they fetch scripts from elsewhere
        assert client.get(page).status_code == 404


def rotate(picture: np.ndarray) -> bytes:
    """Store a picture lying on its side, with the EXIF tag that turns it up."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(np.rot90(picture).copy(), "jpeg", exif=exif, quality=95)


def test_pictures_of_every_kind(client) -> None:
    picture = np.zeros((48, 72, 3), np.uint8)
    picture[:, :24] = 255
    grey = picture[:, :, 0]
    frames = [Image.fromarray(picture), Image.new("RGB", (72, 48), "white")]
    expected = (grey > 0).astype(np.uint8)
    for photo in (
        rotate(picture),
        encode(grey.astype(np.uint16) * 257),
        encode(Image.fromarray(picture).convert("CMYK"), "jpeg"),
        encode(frames[0], "gif", save_all=True, append_images=frames[1:]),
        encode(frames[0], "tiff"),
        encode(Image.fromarray(picture).convert("P")),
        encode(frames[0], "webp", lossless=True),
    ):
        answer = client.post("/predict", content=photo)
        assert answer.status_code == 200, answer.text
        found = read(answer.content)
        assert found.shape == expected.shape
        assert (found != expected).mean() < 0.05


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) show\n%%EOF\n"
BAD = {
    "nothing": (b"", 400, "no image: send one as the body"),
    "text": (b"<script>alert(1)</script>", 400, "the image cannot be read"),
    "cut": (encode(np.full((64, 64, 3), 200, np.uint8), "jpeg")[:400], 400, "cannot be read"),
    "many_pixels": (encode(Image.new("1", (300, 200))), 413, "300 x 200 pixels, more than 0.05"),
    "bomb": (encode(Image.new("1", (16000, 11000))), 413, "more than 0.05 million"),
    "many_bytes": (bytes(600_000), 413, "at most 0.5 million bytes"),
    "program": (EPS, 400, "a picture of kind EPS"),
    "deep": (encode(Image.new("F", (4, 4)), "tiff"), 400, "no agreed range"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BAD)
def test_bad_pictures_are_refused_in_a_line(client, kind: str) -> None:
    content, status, told = BAD[kind]
    answer = client.post("/predict", content=content)
    assert answer.status_code == status
    detail = answer.json()["detail"]
    assert told in detail
    assert "\n" not in detail
    assert "/tmp" not in detail


def test_bad_forms_and_words_are_refused(client) -> None:
    photo = encode(draw_half())
    one = ("image", ("a.png", photo, "image/png"))
    two = client.post("/predict", files=[one, one])
    assert (two.status_code, "files" in two.text) == (400, True)
    form = {"Content-Type": "multipart/form-data"}
    assert client.post("/predict", content=b"x", headers=form).status_code == 400
    assert "expected one of png" in client.post("/predict?as=gif", content=photo).text
    assert client.get("/predict").status_code == 405


def test_a_body_that_does_not_say_its_size_is_bounded(client) -> None:
    answer = client.post("/predict", content=(bytes(100_000) for _ in range(9)))
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "x"])
def test_a_size_that_is_none_is_refused(client, length: str) -> None:
    headers = {"Content-Length": length}
    assert client.post("/predict", content=b"x", headers=headers).status_code == 413


def test_other_names_are_not_answered(client) -> None:
    answer = client.get("/classes", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_a_token_is_asked_for(tmp_path) -> None:
    basic = base64.b64encode(f"any:{TOKEN}".encode()).decode()
    with open_server(tmp_path, TOKEN) as client:
        for said, status in (
            (None, 401),
            ("Bearer wrong", 401),
            ("Basic ???", 401),
            (TOKEN, 401),
            (f"Bearer {TOKEN}", 200),
            (f"Basic {basic}", 200),
        ):
            headers = {"Authorization": said} if said else {}
            assert client.get("/classes", headers=headers).status_code == status, said
        assert client.post("/label-studio/webhook", json={}).status_code == 401
        assert client.get("/health").status_code == 200


def test_other_machines_need_a_token(monkeypatch) -> None:
    monkeypatch.delenv("SERVE", raising=False)
    assert read_token("SERVE", "127.0.0.1", False) is None
    assert read_token("SERVE", "0.0.0.0", True) is None
    for host in ("0.0.0.0", "::", "192.168.0.4", "example.org"):
        with pytest.raises(ValueError, match=r"set a token in the environment \(SERVE=…\)"):
            read_token("SERVE", host, False)
    monkeypatch.setenv("SERVE", "short")
    with pytest.raises(ValueError, match="16 or more characters"):
        read_token("SERVE", "0.0.0.0", False)
    monkeypatch.setenv("SERVE", TOKEN)
    assert read_token("SERVE", "0.0.0.0", False) == TOKEN


def ask_many(client, count: int) -> list:
    """Send images at once; the last one is known to have come when this returns."""
    answers: list = []

    def ask() -> None:
        answers.append(client.post("/predict", content=encode(draw_half())))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return [threads, answers]


def test_the_queue_is_bounded_and_goes_on(tmp_path) -> None:
    with open_server(tmp_path) as client:
        network = client.model.segmenter.network
        network.free.clear()
        threads, answers = ask_many(client, 6)
        deadline = time.monotonic() + 30
        while len(answers) < 3:  # those beyond the three places
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [answer.status_code for answer in answers] == [503] * 3
        assert answers[0].headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200  # not held up
        network.free.set()
        for thread in threads:
            thread.join(30)
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 3
        assert client.post("/predict", content=encode(draw_half())).status_code == 200


def test_patience_ends(tmp_path) -> None:
    with open_server(tmp_path, seconds=0.2) as client:
        network = client.model.segmenter.network
        network.free.clear()
        answer = client.post("/predict", content=encode(draw_half()))
        assert (answer.status_code, "within 0.2 seconds" in answer.text) == (504, True)
        network.free.set()


HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n"


def connect(port: int, photo: bytes, sent: int) -> socket.socket:
    """Begin to send an image."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(HEAD.format(len(photo)).encode() + photo[:sent])
    return connection


def ask(port: int, photo: bytes) -> int:
    """Send an image, and return the status of the answer."""
    with connect(port, photo, len(photo)) as connection:
        return int(connection.recv(1000).split()[1])


def test_slow_requests_are_given_up_and_hold_up_nobody(tmp_path) -> None:
    photo = encode(draw_half())
    with open_port(tmp_path, upload_seconds=1, waiting=1, uploads=3) as (port, _):
        slow = [connect(port, photo, 10) for _ in range(2)]
        assert ask(port, photo) == 200  # while the others are read
        for connection in slow:
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")
            connection.close()
        assert ask(port, photo) == 200


def test_who_leaves_frees_the_place(tmp_path, caplog) -> None:
    photo = encode(draw_half())
    with open_port(tmp_path, waiting=2) as (port, model):
        network = model.segmenter.network
        network.free.clear()
        connect(port, photo, 10).close()  # in the middle of an image
        with connect(port, photo, len(photo)) as seen:
            assert network.seen.wait(30)
            with connect(port, photo, len(photo)):  # waits for its turn, and leaves before it
                wait_for(lambda: ask(port, photo) == 503)
            queued = find_place(port, photo)
            network.free.set()
            for connection in (seen, queued):
                connection.settimeout(30)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            queued.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def find_place(port: int, photo: bytes) -> socket.socket:
    """Send an image until it has a place in the queue."""
    found: list[socket.socket] = []

    def waits() -> bool:
        connection = connect(port, photo, len(photo))
        connection.settimeout(0.5)
        try:
            connection.recv(1000)  # refused
        except TimeoutError:
            found.append(connection)
        else:
            connection.close()
        return bool(found)

    wait_for(waits)
    return found[0]


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Label Studio's protocol: predictions, where images may come from, and annotations that return."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_tools import CLASSES, draw_half, encode, open_server
from test_exports import decode_brush

HEAD = '<View><Image name="img" value="$photo"/>'
BRUSH = f'{HEAD}<BrushLabels name="b" toName="img"><Label value="cat"/></BrushLabels></View>'
POLYGON = BRUSH.replace("Brush", "Polygon")
PHOTO = encode(draw_half())
DATA = f"data:image/png;base64,{base64.b64encode(PHOTO).decode()}"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with open_server(tmp_path_factory.mktemp("serve")) as client:
        yield client


def predict(client, address: object, config: str = BRUSH) -> Any:
    """Ask for the prediction of one task."""
    tasks = [{"id": 1, "data": {"photo": address}}]
    words = {"tasks": tasks, "label_config": config, "project": "1.2", "params": {}}
    return client.post("/label-studio/predict", json=words)


def test_brushes_come_back(client) -> None:
    (found,) = predict(client, DATA).json()["results"]
    (region,) = found["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == ("b", "img", "brushlabels")
    assert (region["original_width"], region["original_height"]) == (12, 8)
    assert region["value"]["brushlabels"] == ["cat"]
    mask = decode_brush(region["value"]["rle"]).reshape(8, 12, 4)
    np.testing.assert_array_equal(mask[:, :, 3], draw_half()[:, :, 0])
    assert found["model_version"] == "bright-1"
    assert 0.99 < found["score"] <= 1


def test_polygons_come_back(client) -> None:
    (found,) = predict(client, DATA, POLYGON).json()["results"]
    (region,) = found["result"]
    assert region["type"] == "polygonlabels"
    corners = np.array(region["value"]["points"])
    assert corners.min(0).tolist() == [0, 0]
    assert corners.max(0) == pytest.approx([100 / 3, 100], abs=1e-3)


def test_a_label_is_found_by_its_alias(client) -> None:
    config = BRUSH.replace('value="cat"', 'value="Katze" alias="cat"')
    (found,) = predict(client, DATA, config).json()["results"]
    assert found["result"][0]["value"]["brushlabels"] == ["Katze"]


CONFIGS = {
    "nothing": (None, "no labelling config"),
    "empty": ("<View></View>", "neither BrushLabels nor PolygonLabels"),
    "cut": (BRUSH[:50], "no plain XML"),
    "entities": (f'<!DOCTYPE v [<!ENTITY a "aa">]>{BRUSH}', "no plain XML"),
    "image": (BRUSH.replace("$photo", "photo"), "has no <Image"),
    "names": (BRUSH.replace('"cat"', '"dog"'), "is a class of the model, cat, <dög>"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_that_cannot_be_served(client, kind: str) -> None:
    config, told = CONFIGS[kind]
    for answer in (
        client.post("/label-studio/setup", json={"project": "1.2", "schema": config}),
        predict(client, DATA, config),
    ):
        assert (answer.status_code, told in answer.json()["detail"]) == (400, True), answer.text
    good = client.post("/label-studio/setup", json={"project": "1.2", "schema": BRUSH})
    assert good.json() == {"model_version": "bright-1"}


def test_one_bad_image_leaves_the_others_alone(client) -> None:
    tasks = [{"id": 1, "data": {"photo": "data:image/png;base64,AAAA"}}, {"id": 2}]
    tasks.append({"id": 3, "data": {"photo": DATA}})
    words = {"tasks": tasks, "label_config": BRUSH}
    results = client.post("/label-studio/predict", json=words).json()["results"]
    assert [len(found["result"]) for found in results] == [0, 0, 1]
    assert "cannot be read" in results[0]["error"]
    assert "has no image" in results[1]["error"]
    words["tasks"] = tasks * 2
    assert client.post("/label-studio/predict", json=words).status_code == 413


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A root with a photo, and a secret beside it that a link of the root leads to."""
    (tmp_path / "root/inner").mkdir(parents=True)
    (tmp_path / "root/inner/ä b.png").write_bytes(PHOTO)
    (tmp_path / "secret.png").write_bytes(PHOTO)
    (tmp_path / "root/link.png").symlink_to(tmp_path / "secret.png")
    return tmp_path


def test_local_files_lie_below_one_folder(disk: Path) -> None:
    address = "/data/local-files/?d="
    with open_server(disk, root=disk / "root", label_studio="http://ls:8080") as client:
        for good in (f"{address}inner/ä%20b.png", f"http://ls:8080{address}inner/ä b.png"):
            assert len(predict(client, good).json()["results"][0]["result"]) == 1
        for bad in (
            f"{address}../secret.png",
            f"{address}%2e%2e/secret.png",
            f"{address}{disk}/secret.png",
            f"{address}link.png",
            f"{address}inner",
            f"{address}a%00b",
            address,
        ):
            answer = predict(client, bad)
            assert answer.status_code == 400, bad
            assert PHOTO[:8] not in answer.content
        hidden = predict(client, f"{address}../secret.png").json()["detail"]
        assert hidden.endswith("no such file below job.images")
        assert predict(client, f"{address}../none.png").json()["detail"].endswith(hidden[-30:])
    with open_server(disk) as client:
        assert "job.images=DIR" in predict(client, f"{address}inner/a.png").text


@pytest.fixture
def web():
    """A web server with a photo, which leads elsewhere too; it knows what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(302 if self.path == "/leads" else 200)
            self.send_header("Location", "/photo.png")
            self.end_headers()
            self.wfile.write(bytes(600_000) if self.path == "/large" else PHOTO)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


REFUSED = ("file:///etc/passwd", "ftp://{}/a", "http://{}@127.0.0.1:1/a", "//{}/a", "gopher://{}/")


def test_no_other_host_is_asked(web, tmp_path) -> None:
    host, asked = web
    with open_server(tmp_path, label_studio="http://ls.example:8080") as client:
        for address in (f"http://{host}/photo.png", *(form.format(host) for form in REFUSED)):
            answer = predict(client, address)
            assert "this host is not allowed" in answer.json()["detail"], address
    with open_server(tmp_path) as client:
        assert "start with job.label_studio" in predict(client, "/data/upload/1/a.png").text
    assert asked == []


def test_allowed_hosts_are_asked_and_lead_nowhere(web, tmp_path, monkeypatch) -> None:
    host, asked = web
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    with open_server(tmp_path, remote=[host]) as client:
        assert predict(client, f"http://{host}/photo.png").status_code == 200
        assert "302" in predict(client, f"http://{host}/leads").json()["detail"]
        assert "0.5 million bytes" in predict(client, f"http://{host}/large").json()["detail"]
    assert asked == [(path, None) for path in ("/photo.png", "/leads", "/large")]
    asked.clear()
    with open_server(tmp_path, label_studio=f"http://{host}") as client:
        assert predict(client, "/data/upload/1/photo.png").status_code == 200
    assert asked == [("/data/upload/1/photo.png", "Token key")]


def make_event(action: str = "ANNOTATION_CREATED", **changes: Any) -> dict[str, Any]:
    """An event of Label Studio's webhook."""
    annotation = {"id": 9, "result": [{"type": "brushlabels"}], "completed_by": 1}
    task = {"id": 4, "data": {"photo": "/data/local-files/?d=../../a.png"}}
    event = {"action": action, "project": {"id": 7}, "task": task, "annotation": annotation}
    return {**event, **changes}


def test_annotations_flow_back(tmp_path) -> None:
    def send(event: dict[str, Any]) -> Any:
        return client.post("/label-studio/webhook", json=event).json()

    with open_server(tmp_path) as client:
        assert send(make_event())["kept"] == 1
        path = tmp_path / "kept/project_7_task_4_annotation_9.json"
        (task,) = json.loads(path.read_text())
        assert task["annotations"][0]["result"] == [{"type": "brushlabels"}]
        assert task["data"] == make_event()["task"]["data"]

        # A change replaces it; what was deleted is kept apart; nothing else is written
        changed = {"id": 9, "result": []}
        assert send(make_event("ANNOTATION_UPDATED", annotation=changed))["kept"] == 1
        assert json.loads(path.read_text())[0]["annotations"] == [changed]
        gone = {"action": "ANNOTATIONS_DELETED", "project": {"id": 7}, "annotations": [{"id": 9}]}
        assert send(gone)["kept"] == 1
        assert send({"action": "START_TRAINING"})["training"] is False
        assert [file.name for file in (tmp_path / "kept").iterdir()] == [f"{path.name}.deleted"]

        # Several at once, and as older Label Studios send them
        tasks = [{"id": n, "project": 7, "data": {}} for n in (1, 2)]
        many = [{"id": n, "result": []} for n in (10, 11)]
        assert send(make_event("ANNOTATIONS_CREATED", task=tasks, annotation=many))["kept"] == 2
        old = {"annotations": [{**tasks[0], "annotations": many}]}
        assert client.post("/label-studio/train", json=old).json()["kept"] == 2
    assert len(list((tmp_path / "kept").glob("*.json"))) == 3


BAD_EVENTS = [
    make_event(task={"id": "../../x", "data": {}}),
    make_event(task={"id": -1, "data": {}}),
    make_event(task={"id": True, "data": {}}),
    make_event(task={"id": 4}),
    make_event(task=None),
    make_event(annotation={"id": 10**30, "result": []}),
    make_event(annotation={"id": 9}),
    make_event(annotation="x"),
    make_event(project={"id": "*"}),
    {"action": "ANNOTATION_CREATED"},
    {"action": "ANNOTATIONS_DELETED", "project": {"id": 7}, "annotations": [{"id": "*"}]},
]


def test_bad_events_write_nothing(client, tmp_path) -> None:
    with open_server(tmp_path) as client:
        for event in BAD_EVENTS:
            answer = client.post("/label-studio/webhook", json=event)
            assert answer.status_code == 400, event
            assert "\n" not in answer.json()["detail"]
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b"[1]", 400),
        (b"{", 400),
        (b"\xff{}", 400),
        (b"{" + b" " * 600_000 + b"}", 413),
    ],
)
def test_bad_json_is_refused(client, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    for place in ("predict", "setup", "webhook", "train"):
        answer = client.post(f"/label-studio/{place}", content=body, headers=headers)
        assert answer.status_code == status, place


def test_a_page_of_another_site_cannot_send_events(client) -> None:
    plain = {"Content-Type": "text/plain"}
    sent = json.dumps(make_event())
    answer = client.post("/label-studio/webhook", content=sent, headers=plain)
    assert answer.status_code == 415
    assert client.options("/label-studio/webhook").status_code == 405
    assert CLASSES[1] == "cat"

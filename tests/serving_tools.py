"""A small server: a network that calls bright pixels `cat` and dark ones background."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from fmawsss.networks.inference import SINGLE_SCALE
from fmawsss.networks.segmenter import Segmenter
from fmawsss.resizing import KeepSize, Normaliser
from fmawsss.viz import make_palette
from stages.serve.app import build_app
from stages.serve.limits import Limits
from stages.serve.model import Model
from stages.serve.start import bind
from stages.serve.task_images import TaskImages

CLASSES = ("background", "cat", "<dög> \"&'")
HOSTS = ["testserver", "127.0.0.1"]
LIMITS = Limits(
    megabytes=0.5,
    megapixels=0.05,
    uploads=4,
    waiting=3,
    threads=1,
    upload_seconds=5,
    seconds=20,
    tasks=5,
)


class Bright(torch.nn.Module):
    """Logits of three classes; it waits where `free` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(8.0), requires_grad=False)
        self.free, self.seen = threading.Event(), threading.Event()
        self.free.set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.set()
        assert self.free.wait(30)
        bright = images.mean(1, keepdim=True) - 0.5
        return torch.cat([-bright, bright, bright - 10], 1) * self.scale


def make_model(megapixels: float = LIMITS.megapixels) -> Model:
    """A model that knows brightness."""
    segmenter = Segmenter(
        network=Bright(),
        classes=CLASSES,
        palette=make_palette(3),
        resize=KeepSize(),
        normalise=Normaliser([0.0] * 3, [1.0] * 3),
        inference=SINGLE_SCALE,
    )
    return Model(segmenter, "bright-1", megapixels)


def put_together(folder: Path, token: str | None, changes: dict[str, Any]) -> tuple[Model, Any]:
    """A model, and the server that asks it."""
    model, sources = make_model(), {"root": None, "label_studio": None, "remote": ()}
    sources |= {key: changes.pop(key) for key in set(sources) & set(changes)}
    limits = replace(LIMITS, **changes)
    images = TaskImages(**sources, size=limits.body, seconds=5)
    return model, build_app(model, limits, HOSTS, token, images, folder / "kept")


@contextmanager
def open_server(folder: Path, token: str | None = None, **changes: Any) -> Iterator[TestClient]:
    """Ask a server in this process; `client.model` is behind it."""
    model, app = put_together(folder, token, changes)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.model = model
        yield client
    app.state.turns.close()


@contextmanager
def open_port(folder: Path, **changes: Any) -> Iterator[tuple[int, Model]]:
    """Serve on a free port of this machine, for what only real connections show."""
    model, app = put_together(folder, None, changes)
    with bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1], model
        finally:
            model.segmenter.network.free.set()
            server.should_exit = True
            thread.join(30)
    app.state.turns.close()


def draw_half(height: int = 8, width: int = 12) -> np.ndarray:
    """A picture whose left third is bright."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 3] = 255
    return picture


def encode(picture: Any, kind: str = "png", **options: Any) -> bytes:
    """Encode an array, or a picture of Pillow."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()

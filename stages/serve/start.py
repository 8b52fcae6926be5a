"""Serve a trained network to other programs: `python infer.py task=serve`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from callbacks.training_signals import measure_peak
from fmawsss.files.texts import name_first
from stages.serve.guards import read_token
from stages.serve.limits import Limits

logger = logging.getLogger(__name__)

BACKLOG = 128  # connections that the system holds before they are looked at
GRACE = 5  # seconds that answers have when the server ends


def serve_model(
    checkpoint: Path,
    host: str,
    port: int,
    hosts: Sequence[str],
    token_from: str,
    open_to_all: bool,
    device: str | None,
    longest: int,
    limits: Limits,
    images: str | None,
    label_studio: str | None,
    remote: Sequence[str],
    corrections: str,
) -> None:
    """Serve a network until it is interrupted; it answers once the model is loaded.

    hosts: names by which clients may call this machine. token_from: the environment's variable.
    longest: larger images are seen smaller, so that the memory is bounded.
    images, label_studio, remote: where images of Label Studio's tasks may come from.
    corrections: the folder that annotations flow back to.

    Raises:
        ValueError: for a host of this machine that others reach, without a token.
        OSError: for an address that is taken.
    """
    uvicorn, build_app, load_model, TaskImages = import_server()
    token = read_token(token_from, host, open_to_all)
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"job.images={images}: no such folder")
    with bind(host, port) as listener:
        # The model first, and a first look with it
        model = load_model(checkpoint, device, longest, limits.megapixels)
        model.warm_up()
        sources = TaskImages(
            root=None if images is None else Path(images),
            label_studio=label_studio,
            remote=remote,
            size=limits.body,
            seconds=limits.upload_seconds,
        )
        app = build_app(model, limits, hosts, token, sources, Path(corrections))
        tell(model, listener, token)

        # Requests are logged by their sizes alone
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            backlog=BACKLOG,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            app.state.turns.close()


def tell(model: Any, listener: socket.socket, token: str | None) -> None:
    """Say where the server is, what it serves, and what it takes."""
    host, port = listener.getsockname()[:2]
    names, memory = model.segmenter.classes[1:], measure_peak(model.device)
    logger.info(
        "%s on %s, %d classes: %s; %.1f GB of memory",
        model.version, model.device, len(names), name_first(names), memory,
    )  # fmt: skip
    known = "with the token" if token else "without a token"
    shown = f"[{host}]" if ":" in host else host
    logger.info("serving at http://%s:%d %s, Ctrl+C ends it", shown, port, known)


def bind(host: str, port: int) -> socket.socket:
    """Take an address before anything is loaded; raises OSError where that does not go."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()  # it stays open
    except OSError as error:
        raise OSError(
            f"job.host={host} job.port={port} cannot be served at ({error.strerror}): choose "
            "another port, or end what serves there"
        ) from error
    return listener


def import_server() -> tuple[Any, ...]:
    """Import what a server is made of, or say how to install it."""
    try:
        import python_multipart  # noqa: F401
        import uvicorn

        from stages.serve.app import build_app
        from stages.serve.model import load_model
        from stages.serve.task_images import TaskImages
    except ImportError as error:
        raise ModuleNotFoundError(
            f'task=serve needs a web server ({error}): pip install -e ".[serve]"'
        ) from error
    return uvicorn, build_app, load_model, TaskImages

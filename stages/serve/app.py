"""The addresses of a server: `/predict`, `/classes`, `/health`, and Label Studio's."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from fmawsss.files.images import TooLargeError
from stages.serve.answers import PNG, choose_kind, describe_answer, list_classes, write_mask
from stages.serve.bodies import Bodies, BoundedBodies
from stages.serve.guards import RequireToken
from stages.serve.label_studio import make_routes
from stages.serve.limits import Limits
from stages.serve.model import Model
from stages.serve.task_images import TaskImages
from stages.serve.turns import GONE, RETRY_AFTER, Turns

logger = logging.getLogger(__name__)


def build_app(
    model: Model,
    limits: Limits,
    hosts: Sequence[str],
    token: str | None,
    images: TaskImages,
    corrections: Path,
) -> FastAPI:
    """Put a server together; see `stages.serve.start.serve_model` for what it is given."""
    turns, bodies = Turns(limits), Bodies(limits)

    # No page that fetches scripts from elsewhere
    app = FastAPI(title="fmawsss", docs_url=None, redoc_url=None)
    app.state.turns = turns  # to be closed at the end
    app.include_router(make_routes(model, turns, bodies, limits, images, corrections))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server is there."""
        return {"status": "UP"}

    @app.get("/classes")
    async def classes() -> dict[str, Any]:
        """List what the values of masks mean."""
        return {"model_version": model.version, "classes": list_classes(model.segmenter)}

    @app.post("/predict", response_class=Response, responses={200: {"content": {PNG: {}}}})
    async def predict(
        request: Request, kind: Annotated[str | None, Query(alias="as")] = None
    ) -> Response:
        """Find the mask of an image, sent as the body or as the file of a form."""
        chosen = choose_kind(kind, request.headers.get("accept", ""))
        with TemporaryDirectory(prefix="fmawsss-serve-") as folder:
            path = Path(folder) / "image"
            await bodies.read_image(request, path)
            return await turns.take(request, lambda: answer(model, path, chosen))

    add_refusals(app)

    # The outermost comes last
    app.add_middleware(BoundedBodies, size=limits.body)
    if token is not None:
        app.add_middleware(RequireToken, token=token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


def add_refusals(app: FastAPI) -> None:
    """Say in a line what is refused, whatever raised it."""

    @app.exception_handler(ValueError)
    async def refuse(_: Request, error: ValueError) -> Response:
        """Say in a line what is wrong with an image or a word."""
        status = 413 if isinstance(error, TooLargeError) else 400
        return JSONResponse({"detail": str(error)}, status)

    @app.exception_handler(ClientDisconnect)
    async def leave(_: Request, __: ClientDisconnect) -> Response:
        """Answer nobody."""
        return Response(status_code=GONE)

    @app.exception_handler(MemoryError)
    @app.exception_handler(torch.OutOfMemoryError)
    async def excuse(_: Request, error: Exception) -> Response:
        """Say that an image was too much."""
        logger.warning("no memory for an image: %s", str(error).partition("\n")[0])
        refusal = "the server has no memory for an image of this size: shrink it"
        return JSONResponse({"detail": refusal}, 503, {"Retry-After": RETRY_AFTER})


def answer(model: Model, path: Path, kind: str) -> Response:
    """Find the mask of a picture, and write the answer; one line says how long it took."""
    started = time.monotonic()
    found = model.look(path)
    if kind == "png":
        response = Response(write_mask(found), media_type=PNG)
    else:
        response = JSONResponse(describe_answer(found, model.version, kind == "both"))
    height, width = found.mask.shape
    logger.info("%d x %d pixels in %.2f s", width, height, time.monotonic() - started)
    return response

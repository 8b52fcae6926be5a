"""Read requests: bounded in bytes, time and number, images to a file and not into memory."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.serve.limits import Limits

FORM = "multipart/form-data"
JSON = "application/json"
PARTS = 8  # of a form beside its file
DIGITS = 15  # of a length that is believed
BUSY = {"Retry-After": "1"}


class BoundedBodies:
    """Refuse requests of more bytes than allowed: at once where they say so, else on the way."""

    def __init__(self, app: ASGIApp, size: int) -> None:
        self.app, self.size = app, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413, or let the request through."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told = Headers(scope=scope).get("content-length", "0")
        if not told.isdecimal() or len(told) > DIGITS or int(told) > self.size:
            refusal = JSONResponse({"detail": self.message}, 413, {"Connection": "close"})
            return await refusal(scope, receive, send)
        read = 0

        async def receive_bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.size:
                raise HTTPException(413, self.message)
            return message

        return await self.app(scope, receive_bounded, send)

    @property
    def message(self) -> str:
        """What is said of a request that is too large."""
        return f"a request has at most {self.size / 1e6:g} million bytes: send a smaller image"


class Bodies:
    """Reads the requests of a server, some at once; a slow one is given up."""

    def __init__(self, limits: Limits) -> None:
        self.places = asyncio.Semaphore(limits.uploads)
        self.seconds = limits.upload_seconds

    async def read_image(self, request: Request, path: Path) -> None:
        """Write the image of a request to a file: the only file of a form, or the body itself.

        Raises:
            HTTPException: for a request without an image, and for one that comes too slowly.
        """
        async with self._reading():
            if request.headers.get("content-type", "").startswith(FORM):
                return await write_form(request, path)
            with path.open("wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            if path.stat().st_size == 0:
                raise HTTPException(400, "no image: send one as the body, or as a file of a form")

    async def read_json(self, request: Request) -> dict[str, Any]:
        """Read a JSON object.

        A page of another site cannot send this type without asking first.

        Raises:
            HTTPException: for anything else.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise HTTPException(415, f"expected {JSON}, found {kind[:100] or 'no type'!r}")
        async with self._reading():
            body = await request.body()
        try:
            found = await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "the request is no JSON that can be read") from error
        if not isinstance(found, dict):
            raise HTTPException(400, f"expected a JSON object, found {type(found).__name__}")
        return found

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        if self.places.locked():
            raise HTTPException(503, "too many requests are being sent", headers=BUSY)
        try:
            async with self.places, asyncio.timeout(self.seconds):
                yield
        except TimeoutError:
            raise HTTPException(
                408, f"the request was not read within {self.seconds:g} seconds"
            ) from None


async def write_form(request: Request, path: Path) -> None:
    """Write the only file of a form to a path."""
    async with request.form(max_files=1, max_fields=PARTS) as form:
        upload = find_upload(form)
        with path.open("wb") as file:
            shutil.copyfileobj(upload.file, file)


def find_upload(form: FormData) -> UploadFile:
    """Return the file of a form; raises HTTPException without one."""
    for value in form.values():
        if isinstance(value, UploadFile) and value.size:
            return value
    raise HTTPException(400, "the form holds no file: curl -F image=@photo.jpg")

"""Who may ask a server: those who know its token, and its own names only."""

from __future__ import annotations

import base64
import hmac
import os
from binascii import Error as NoBase64
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/health", "/label-studio/health")  # tell nothing but that the server is there
SHORTEST = 16  # characters of a token


class RequireToken:
    """Answer 401 to requests without the token.

    It comes as `Authorization: Bearer TOKEN`, or as the password of Basic, which Label Studio
    sends.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or not."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._is_known(scope):
            return await self.app(scope, receive, send)
        ask = {"WWW-Authenticate": 'Basic realm="fmawsss"', "Connection": "close"}
        await JSONResponse({"detail": "a token is needed"}, 401, ask)(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        kind, _, said = Headers(scope=scope).get("authorization", "").partition(" ")
        found = said.strip().encode("utf-8", "surrogateescape")
        if kind.lower() == "basic":
            try:
                found = base64.b64decode(found, validate=True).partition(b":")[2]
            except NoBase64:
                return False
        return kind.lower() in ("basic", "bearer") and hmac.compare_digest(found, self.token)


def read_token(variable: str, host: str, open_to_all: bool) -> str | None:
    """Read the token from the environment.

    Raises:
        ValueError: for a short one, and without one where other machines reach the server, unless
            it is open to all.
    """
    token = os.environ.get(variable)
    if token is not None and (len(token) < SHORTEST or not token.isascii() or " " in token):
        raise ValueError(
            f"{variable} holds no token: expected {SHORTEST} or more characters of ASCII without "
            'spaces, such as `python -c "import secrets; print(secrets.token_urlsafe())"` makes'
        )
    if token is None and not open_to_all and not is_local(host):
        raise ValueError(
            f"job.host={host} lets other machines in: set a token in the environment "
            f"({variable}=…), or job.open_to_all=true where everybody may ask"
        )
    return token


def is_local(host: str) -> bool:
    """Say whether a host can be reached from this machine only.

    >>> [is_local(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

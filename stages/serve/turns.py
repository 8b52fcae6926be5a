"""Images take turns: some threads work, a bounded number waits, all others are refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import HTTPException, Request

from stages.serve.limits import Limits

T = TypeVar("T")
RETRY_AFTER = "1"  # seconds
GONE = 499  # a client that did not wait for its answer


class Turns:
    """A pool of threads with a bounded queue.

    A place is taken by an image that was read whole, never by a slow upload, and it comes free when
    the work is done or was given up before it began.
    """

    def __init__(self, limits: Limits) -> None:
        self.pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="serve")
        self.places = threading.BoundedSemaphore(limits.waiting)
        self.seconds, self.waiting = limits.seconds, limits.waiting

    async def take(self, request: Request, work: Callable[[], T]) -> T:
        """Do a piece of work when its turn comes.

        Raises:
            HTTPException: 503 when too many wait, 504 when it takes too long, 499 when the client
                is gone. Work that has not begun is then left out.
        """
        if not self.places.acquire(blocking=False):
            raise HTTPException(
                503,
                f"{self.waiting} images are waiting: try again later",
                headers={"Retry-After": RETRY_AFTER},
            )
        future = self.pool.submit(work)
        future.add_done_callback(self._give_back)

        # What comes first: the answer, the end of the client, the end of patience
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(wait_for_end(request))
        both: set[asyncio.Future[Any]] = {answer, gone}
        done, _ = await asyncio.wait(
            both, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        gone.cancel()
        if answer in done:
            return answer.result()
        answer.cancel()
        if gone in done:
            raise HTTPException(GONE, "the client is gone")
        raise HTTPException(504, f"no answer within {self.seconds:g} seconds: try again later")

    def _give_back(self, _: Future[Any]) -> None:
        self.places.release()

    def close(self) -> None:
        """Leave out what has not begun."""
        self.pool.shutdown(wait=False, cancel_futures=True)


async def wait_for_end(request: Request) -> None:
    """Wait until the client closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Writers behind the device: a batch is painted and written while the next one is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import lightning as L
import torch


def tell_all(hook: str) -> Callable[..., None]:
    """Make a hook that calls those of all writers in turn."""

    def tell(self: Behind, *args: Any, **kwargs: Any) -> None:
        self.finish()
        for writer in self.writers:
            getattr(writer, hook)(*args, **kwargs)

    return tell


class Behind(L.Callback):
    """Call writers in a thread of their own, batch by batch in order, one batch behind the device.

    Files and journals come as if they were called at once. What a writer raises ends the run at the
    next batch or at the end. A run that ends early waits for the batch that is being written.
    """

    def __init__(self, writers: Sequence[L.Callback]) -> None:
        self.writers = writers
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writers")
        self.writing: Future[None] | None = None

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Hand on a batch, once the one before is written."""
        self.finish()
        self.writing = self.thread.submit(self._write, *args, **kwargs)

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the batch that is being written; it is the run's own failure that counts."""
        with suppress(Exception):
            self.finish()
        for writer in self.writers:
            writer.on_exception(*args, **kwargs)

    def finish(self) -> None:
        """Wait for the batch that is being written; raise what its writers raised."""
        if self.writing is not None:
            self.writing.result()
            self.writing = None

    def _write(self, *args: Any, **kwargs: Any) -> None:
        """Write one batch."""
        with torch.inference_mode():
            for writer in self.writers:
                writer.on_predict_batch_end(*args, **kwargs)

    setup = tell_all("setup")
    on_predict_start = tell_all("on_predict_start")
    on_predict_epoch_start = tell_all("on_predict_epoch_start")
    on_predict_epoch_end = tell_all("on_predict_epoch_end")
    on_predict_end = tell_all("on_predict_end")
    teardown = tell_all("teardown")

"""Label Studio's protocol for ML backends, below `/label-studio`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from fmawsss.files.texts import name_first
from fmawsss.networks.segmenter import Segmentation
from stages.serve.annotations import keep_event, keep_tasks
from stages.serve.bodies import Bodies
from stages.serve.labelling import Labelling, read_labelling
from stages.serve.limits import Limits
from stages.serve.model import Model
from stages.serve.task_images import TaskImages
from stages.serve.turns import Turns

logger = logging.getLogger(__name__)

NO_TRAINING = "nothing is trained by a server: python infer.py task=corrections"


def make_routes(
    model: Model,
    turns: Turns,
    bodies: Bodies,
    limits: Limits,
    images: TaskImages,
    corrections: Path,
) -> APIRouter:
    """Make the addresses that Label Studio asks."""
    routes = APIRouter(prefix="/label-studio")
    writing = asyncio.Lock()  # one event after the other: the last one wins

    @routes.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server is there."""
        return {"status": "UP", "model_class": "fmawsss"}

    @routes.post("/setup")
    async def setup(request: Request) -> dict[str, Any]:
        """Look at the labelling config of a project."""
        event = await bodies.read_json(request)
        labelling = read_config(event.get("schema"), model)
        unused = [
            name
            for value, name in enumerate(model.segmenter.classes)
            if value and value not in labelling.labels
        ]
        if unused:
            logger.warning("no label of the project is the class %s", name_first(unused))
        return {"model_version": model.version}

    @routes.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        """Find regions in the images of tasks."""
        event = await bodies.read_json(request)
        labelling, tasks = read_config(event.get("label_config"), model), event.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise HTTPException(400, "`tasks` is no list of tasks")
        if len(tasks) > limits.tasks:
            raise HTTPException(413, f"{len(tasks)} tasks at once, more than {limits.tasks}")
        results = [await look_at(request, task, labelling) for task in tasks]

        # One image that cannot be read leaves the others alone
        faults = [found["error"] for found in results if "error" in found]
        if faults and len(faults) == len(tasks):
            raise HTTPException(400, faults[0])
        return {"results": results, "model_version": model.version}

    async def look_at(
        request: Request, task: dict[str, Any], labelling: Labelling
    ) -> dict[str, Any]:
        """Predict one task; what is wrong with its image is said in its place."""

        def find_mask() -> Segmentation:
            with TemporaryDirectory(prefix="fmawsss-serve-") as folder:
                data = task.get("data")
                address = data.get(labelling.key) if isinstance(data, dict) else None
                return model.look(images.find(address, Path(folder) / "image"))

        try:
            found = await turns.take(request, lambda: labelling.describe(find_mask()))
        except ValueError as error:
            logger.warning("task %s: %s", str(task.get("id"))[:20], error)
            found = {"result": [], "score": 0.0, "error": str(error)}
        return {**found, "model_version": model.version}

    @routes.post("/webhook")
    async def webhook(request: Request) -> dict[str, Any]:
        """Keep the annotations of an event."""
        event = await bodies.read_json(request)
        return await keep(keep_event, event)

    @routes.post("/train")
    async def train(request: Request) -> dict[str, Any]:
        """Keep the annotations that an older Label Studio sends."""
        event = await bodies.read_json(request)
        return await keep(keep_tasks, event)

    async def keep(write: Any, event: dict[str, Any]) -> dict[str, Any]:
        async with writing:
            try:
                kept = await asyncio.to_thread(write, corrections, event)
            except ValueError as error:
                raise HTTPException(400, str(error)) from error
        return {"kept": kept, "training": False, "detail": NO_TRAINING}

    return routes


def read_config(config: object, model: Model) -> Labelling:
    """Read a labelling config; raises HTTPException for one that the model cannot serve."""
    try:
        return read_labelling(config, model.segmenter.classes)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error

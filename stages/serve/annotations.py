"""What annotators draw flows back: one file per annotation, as Label Studio exports tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fmawsss.files.json_files import write_json

logger = logging.getLogger(__name__)

DRAWN = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
TAKEN_BACK = ".deleted"  # ends the name of an annotation that was deleted in Label Studio
Event = Mapping[str, Any]


def keep_event(folder: Path, event: Event) -> int:
    """Keep what an event says of annotations; return how many files changed. Nothing is trained.

    A file is named by numbers alone, `project_1_task_2_annotation_3.json`. An annotation that was
    changed replaces its file; one that was deleted gets another ending, and is kept.

    Raises:
        ValueError: for an event without the numbers or annotations that it should have.
    """
    action = event.get("action")
    if action == DELETED:
        project = read_number(require(event, "project"), "project")
        return sum(
            take_back(folder, project, read_number(found, "annotation"))
            for found in as_list(event.get("annotations"))
        )
    if action not in DRAWN:
        return 0
    project = read_number(require(event, "project"), "project")
    pairs = list(zip(as_list(event.get("annotation")), as_list(event.get("task")), strict=False))
    if not pairs:
        raise ValueError(f"{action}: expected an annotation and its task")
    for annotation, task in pairs:
        keep(folder, project, task, annotation)
    return len(pairs)


def keep_tasks(folder: Path, event: Event) -> int:
    """Keep the annotations of exported tasks, which older Label Studios send to be trained on."""
    tasks = as_list(event.get("annotations"))
    found = list(list_annotations(tasks))
    for task, annotation in found:
        keep(folder, read_number({"id": task.get("project", 0)}, "project"), task, annotation)
    return len(found)


def list_annotations(tasks: list[Any]) -> Iterator[tuple[Event, Any]]:
    """Give each annotation with its task."""
    for task in tasks:
        if not isinstance(task, Mapping):
            raise ValueError("a task is no JSON object")
        for annotation in as_list(task.get("annotations")):
            yield task, annotation


def keep(folder: Path, project: int, task: object, annotation: object) -> None:
    """Write an annotation with its task, whole or not at all."""
    numbers = [project, read_number(task, "task"), read_number(annotation, "annotation")]
    assert isinstance(task, Mapping)
    assert isinstance(annotation, Mapping)
    if not isinstance(annotation.get("result"), list) or not isinstance(task.get("data"), Mapping):
        raise ValueError("an annotation needs its `result`, and its task the `data`")
    path = folder / name_file(*numbers)
    content = {"id": numbers[1], "data": task["data"], "annotations": [annotation]}
    write_json(path, [content])
    logger.info("annotation kept in %s", path)


def take_back(folder: Path, project: int, annotation: int) -> int:
    """Give an annotation that was deleted another ending; return how many there were."""
    found = list(folder.glob(f"project_{project}_task_*_annotation_{annotation}.json"))
    for path in found:
        path.replace(path.with_name(path.name + TAKEN_BACK))
        logger.info("annotation deleted in Label Studio, kept as %s%s", path, TAKEN_BACK)
    return len(found)


def name_file(project: int, task: int, annotation: int) -> str:
    """Name the file of an annotation.

    >>> name_file(1, 2, 3)
    'project_1_task_2_annotation_3.json'
    """
    return f"project_{project}_task_{task}_annotation_{annotation}.json"


def read_number(found: object, what: str) -> int:
    """Return the `id` of what an event holds; raises ValueError where there is none."""
    number = found.get("id") if isinstance(found, Mapping) else None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise ValueError(f"the event's {what} has no number as its `id`")
    return number


def require(event: Event, key: str) -> object:
    """Return what an event holds; raises ValueError where it lacks it."""
    if key not in event:
        raise ValueError(f"the event has no `{key}`")
    return event[key]


def as_list(found: Any) -> list[Any]:
    """Return one or several as a list, nothing as an empty one."""
    if found is None:
        return []
    return list(found) if isinstance(found, list) else [found]

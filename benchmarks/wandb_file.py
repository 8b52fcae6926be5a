"""Read the file that W&B writes offline."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

# LevelDB's log format: blocks that start with the file, after a header; pieces of records with
# checksum, length, kind
BLOCK, HEADER, PIECE = 32768, 7, 7
WHOLE, LAST = 1, 4


def read_records(path: Path) -> list[Any]:
    """List the records of a `.wandb` file, once W&B's own process has written the last one."""
    for _ in range(100):
        records = parse_records(path)
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def parse_records(path: Path) -> list[Any]:
    """List the records that a `.wandb` file holds so far."""
    records = []
    for data in split_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        records.append(record)
    return records


def split_records(data: bytes) -> Iterator[bytes]:
    """Put the pieces of each record together."""
    assert data.startswith(b":W&B")
    place, record = HEADER, b""
    while place + PIECE <= len(data):
        if BLOCK - place % BLOCK < PIECE:  # the rest of a block is too short for a piece
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + PIECE : place + PIECE + length]
        place += PIECE + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def read_history(records: list[Any]) -> dict[str, list[Any]]:
    """Collect the logged values by key."""
    history: dict[str, list[Any]] = {}
    for record in records:
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            history.setdefault(key, []).append(json.loads(item.value_json))
    return history


def read_config(records: list[Any]) -> dict[str, Any]:
    """Collect the config of a run."""
    updates = [
        update
        for record in records
        for update in (*record.config.update, *record.run.config.update)
    ]
    return {
        update.key or "/".join(update.nested_key): json.loads(update.value_json)
        for update in updates
    }


def list_artifacts(records: list[Any]) -> dict[str, list[str]]:
    """List the stored artifacts by name, with their aliases."""
    return {
        r.artifact.name: list(r.artifact.aliases) for r in records if r.HasField("artifact")
    } | {
        r.request.log_artifact.artifact.name: list(r.request.log_artifact.artifact.aliases)
        for r in records
        if r.HasField("request") and r.request.HasField("log_artifact")
    }


def read_summary(records: list[Any]) -> dict[str, Any]:
    """Collect the last values of a run's summary."""
    updates = [update for record in records for update in record.summary.update]
    return {
        update.key or "/".join(update.nested_key): json.loads(update.value_json)
        for update in updates
    }


def read_run(records: list[Any]) -> Any:
    """Return what a run says of itself: id, name, group, kind of job, tags."""
    (found,) = [record.run for record in records if record.HasField("run")]
    return found


def read_rows(records: list[Any]) -> list[dict[str, Any]]:
    """List what was logged together, keys and values."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.HasField("history")
    ]


def read_table(records: list[Any], title: str) -> tuple[dict[str, Any], dict[str, Path]]:
    """Read a table that was logged under a title, and where the files that it names lie.

    Raises:
        KeyError: without such a table.
    """
    for record in records:
        logged = record.artifact if record.HasField("artifact") else None
        artifact = logged or record.request.log_artifact.artifact
        files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
        if f"{title}.table.json" in files:
            return json.loads(files[f"{title}.table.json"].read_text()), files
    raise KeyError(title)

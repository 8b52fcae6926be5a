"""One run at a time works on a product; who does is said; what the dead left is taken over."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from front_door import run
from strikes import fork, wait

import infer
import train
from fmawsss.files import locks
from fmawsss.files.locks import Busy, hold_lock, list_locks, place_lock, wait_lock
from fmawsss.files.products import Product
from stages.signals import answer_signals

DATA = ["dataset.train_images=6", "dataset.val_images=1", "loading.workers=0", "logger=none"]
CUT = ["task=superpixels", "masks.points_per_side=4", *DATA]


def place(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]


def hold_for(lock: Path, seconds: float, held: Path) -> int:
    """Hold a lock in another process, which ends without a word."""
    pid = os.fork()
    if pid:
        while not held.exists():
            time.sleep(0.01)
        return pid
    with hold_lock(lock, lock, "paths.work"):
        held.touch()
        time.sleep(seconds)
        os._exit(0)


def test_a_second_run_is_told_who_works_on_the_product(monkeypatch, tmp_path):
    """Of a process that lives; of one that is dead, the lock is taken over at once."""
    product = tmp_path / "outputs/shapes/superpixels"
    pid = hold_for(place_lock(product, 1), 60, tmp_path / "held")
    with pytest.raises(
        Busy, match=rf"superpixels: .*process {pid} on .* since 20\d\d-.*paths.work"
    ):
        run(infer.main, monkeypatch, *CUT, *place(tmp_path))
    assert not list(product.glob("*.npz"))

    os.kill(pid, 9)
    os.waitpid(pid, 0)
    run(infer.main, monkeypatch, *CUT, *place(tmp_path))
    assert len(list(product.glob("*.npz"))) == 6
    assert not list(product.parent.glob(".*.lock*"))


def test_a_training_is_not_run_twice(monkeypatch, tmp_path):
    words = ["task=cls", "data.superpixels=null", "writers.seeds.kind=caa", *DATA, "report=none"]
    checkpoint = tmp_path / "outputs/shapes/cls.ckpt"
    with (
        hold_lock(place_lock(checkpoint), checkpoint, "paths.work"),
        pytest.raises(Busy, match=r"cls\.ckpt: another run works on it"),
    ):
        run(train.main, monkeypatch, *words, *place(tmp_path))


def test_shards_that_start_together_make_one_product(monkeypatch, tmp_path):
    """The first of them opens the product; the others find it open."""
    opened, slow = Product.open, tmp_path / "slow"
    slow.mkdir()

    def open_slowly(self: Product, *args: object, **named: object) -> None:
        (slow / str(os.getpid())).touch()
        opened(self, *args, **named)
        time.sleep(0.3)

    monkeypatch.setattr(Product, "open", open_slowly)
    run(infer.main, monkeypatch, *CUT, *place(tmp_path / "warm"))
    words = [*CUT, "report=none", f"paths.data={tmp_path}/warm/data", f"paths.outputs={tmp_path}/o"]
    logs = [tmp_path / f"{shard}.log" for shard in range(1, 4)]
    pids = [fork(infer.main, [*words, f"shard={n}/3"], log) for n, log in enumerate(logs, start=1)]
    for pid, log in zip(pids, logs, strict=True):
        ended = wait(pid, log)
        assert ended.code == 0, ended.said
    work = tmp_path / "o/shapes"
    assert len(list(work.glob("superpixels/*.npz"))) == 6
    record = json.loads((work / "superpixels.json").read_text())
    assert [part["complete"] for part in record["parts"].values()] == [True]
    assert len(list(work.glob("runs/*"))) == 3


def test_nothing_is_made_anew_while_shards_work(monkeypatch, tmp_path):
    product = tmp_path / "outputs/shapes/superpixels"
    pid = hold_for(place_lock(product, 2), 60, tmp_path / "held")
    with pytest.raises(Busy, match=f"process {pid}"):
        run(infer.main, monkeypatch, *CUT, "overwrite=true", *place(tmp_path))
    run(infer.main, monkeypatch, *CUT, "shard=1/3", *place(tmp_path))
    assert len(list(product.glob("*.npz"))) == 2
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_a_lock_of_another_machine_is_watched_before_it_is_taken(monkeypatch, tmp_path, caplog):
    """Renewed, it is alive whatever its process is here; silent for a lease, it is not."""
    monkeypatch.setattr(locks, "LEASE", 0.5)
    lock, owner = tmp_path / ".a.lock", tmp_path / ".a.lock.json"
    marker = ["filelock/2", "pid=1", "host=elsewhere", "mode=lease", "token=ab", "duration=0.5"]
    lock.write_text("\n".join(marker) + "\n")
    facts = {"process": 1, "host": platform.node(), "since": "2026-01-01 10:00:00"}  # a container's
    owner.write_text(json.dumps(facts))
    with (
        pytest.raises(Busy, match=r"process 1 on .* since 2026-01-01"),
        hold_lock(lock, tmp_path / "a", "paths.work"),
    ):
        pass
    os.utime(lock, (time.time() + 900, time.time() + 900))  # by a clock that is ahead
    with hold_lock(lock, tmp_path / "a", "paths.work"):
        assert json.loads(owner.read_text())["process"] == os.getpid()
    assert "it is taken over unless it is renewed within" in caplog.text
    assert not list(tmp_path.iterdir())


def test_many_that_start_at_once_and_die_hold_a_lock_one_after_the_other(tmp_path):
    """Each holds it alone for a moment and dies with it, for the others to take it over."""
    lock, inside = tmp_path / ".a.lock", tmp_path / "inside"

    def hold_and_die() -> None:
        while True:
            with suppress(Busy), hold_lock(lock, tmp_path / "a", "paths.work"):
                inside.mkdir()  # fails where another is inside
                time.sleep(0.02)
                inside.rmdir()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.001)

    living = {fork(hold_and_die, [], tmp_path / f"{n}.log") for n in range(6)}
    codes = []
    while living:
        for pid in tuple(living):
            found, status = os.waitpid(pid, os.WNOHANG)  # a dead process is there until then
            if found:
                living.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
    assert codes == [-signal.SIGKILL] * 6, [path.read_text() for path in tmp_path.glob("*.log")]


def test_a_run_whose_lock_was_taken_over_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "LEASE", 0.3)
    lock, owner = tmp_path / ".a.lock", tmp_path / ".a.lock.json"

    def work() -> None:
        with answer_signals(), hold_lock(lock, tmp_path / "a", "paths.work"):
            lock.unlink()
            lock.write_text("of another")
            owner.write_text('"of another"')
            time.sleep(60)

    ended = wait(fork(work, [], tmp_path / "log"), tmp_path / "log")
    assert ended.code == 143, ended.said
    assert lock.read_text() == "of another"
    assert owner.read_text() == '"of another"'


def test_names_with_brackets_and_waiting(tmp_path):
    product = tmp_path / "photos [1]"
    with hold_lock(place_lock(product, 2), product, "paths.work"), wait_lock(product):
        assert list_locks(product) == [place_lock(product, 2)]

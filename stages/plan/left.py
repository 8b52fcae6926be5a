"""What a stage has left to do: read from what is there, nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.shard import choose_shard
from fmawsss.files.journals import list_journals
from fmawsss.files.products import ANY, Product, holds_files, read_record
from stages.apply import find_remaining, list_writers
from stages.checkpoints import find_checkpoint
from stages.stage import Stage, Training, describe_inputs, digest_inputs
from stages.training_files import read_step

Expected = dict[Path, str]  # products that a run will make, and the fingerprints they will have


@dataclass(frozen=True)
class Left:
    """How far a stage is: at which step of `steps`, and how many images of how many are done."""

    step: int
    steps: int
    done: int
    images: int

    @property
    def learns(self) -> bool:
        """Say whether there is a training to do."""
        return self.step < self.steps

    @property
    def applies(self) -> bool:
        """Say whether there are images to make."""
        return self.done < self.images


def find_left(stage: Stage, guessed: bool, expected: Expected) -> Left:
    """Find what a stage has left, and enter what it will make in `expected`.

    guessed: whether its frozen weights are random here, so that a product is known by all else.

    Raises:
        ProductMismatch: for products of other settings, as the run would.
    """
    step = steps = 0
    upstream: dict[str, str] = {}

    # the training
    training = stage.training
    if training is not None:
        product = settle(stage.describe_checkpoint(), training.inputs, guessed, expected)
        step, steps = count_steps(stage, training, product), training.loop["max_steps"]
        upstream = {"checkpoint": product.fingerprint}
    if stage.learns and step == steps:
        upstream = digest_inputs({"checkpoint": find_checkpoint(stage)})

    # the images
    product = settle(stage.describe_output(None), stage.output.inputs, guessed, expected)
    product = replace(product, upstream={**product.upstream, **upstream})
    expected[stage.output.path] = product.fingerprint
    done, images = count_images(stage, product, step < steps)
    return Left(step, steps, done, images)


def settle(
    product: Product, inputs: Mapping[str, Path], guessed: bool, expected: Expected
) -> Product:
    """Describe a product as the run will, when all that it reads is there."""
    upstream = dict(product.upstream)
    for name, path in inputs.items():
        if path in expected and read_record(path) is None:
            upstream[name] = expected[path]
    record = read_record(product.path)
    if not guessed or record is None:
        return replace(product, upstream=upstream)
    weights = record["settings"].get("weights")
    return replace(product, upstream=upstream, settings={**product.settings, "weights": weights})


def is_begun(
    product: Product, beside: Sequence[Path], part: str, inputs: str, overwrite: bool
) -> bool:
    """Say whether a part of a product is begun; raises ProductMismatch where a run would."""
    record = read_record(product.path)
    if overwrite or not any(map(holds_files, (product.path, *beside))):
        return False
    if record is None and not holds_files(product.path):
        return False
    product.open(overwrite=False, beside=beside)  # with a record of these settings nothing changes
    if record is None or part not in record["parts"]:
        return False
    product.start(part, inputs, beside)  # the same
    return True


def count_steps(stage: Stage, training: Training, product: Product) -> int:
    """Count the steps that are trained already."""
    part, inputs = describe_inputs(training.data, training.split)
    if not is_begun(product, [stage.steps], part, inputs, stage.run.overwrite):
        return 0
    if product.is_complete(part) and product.path.is_file():
        return int(training.loop["max_steps"])
    found = [*stage.steps.glob("stopped_*.ckpt"), *stage.steps.glob("step_*.ckpt")]
    return max(map(read_step, found), default=0)


def count_images(stage: Stage, product: Product, anew: bool) -> tuple[int, int]:
    """Count the images that are made, and all of this share.

    anew: whether what they are made with is yet to be learned.
    """
    output, data = stage.output, stage.output.data
    part, inputs = describe_inputs(data, data.whole.split)
    records = data.read_records(data.whole.split)
    shard = choose_shard(stage.run.shard, stage.run.overwrite, product.path)
    mine = shard.choose([record.name for record in records])

    # an open training makes another checkpoint than the one that these were made with
    beside = list_journals(product.path)
    inputs = ANY if output.grows else inputs
    if anew or not is_begun(product, beside, part, inputs, stage.run.overwrite):
        return 0, len(mine)
    writers = list_writers(stage, records, shard.number)
    return len(mine) - len(find_remaining(stage, records, mine, writers)), len(mine)

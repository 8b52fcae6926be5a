"""Build a stage from its node of the config; `conf/task/_stage.yaml` says what every stage has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits
from datamodules.labels import keep_image_labels
from datamodules.loading import Loading
from datamodules.views import TrainingView, WholeView
from fmawsss.networks.builders import NETWORKS
from fmawsss.networks.checkpoints import (
    NetworkCheckpoint,
    build_resize,
    choose_builder,
    describe_network,
    read_checkpoint,
)
from fmawsss.resizing import Normaliser
from lightning_modules.learned import learns
from stages.checkpoints import find_network
from stages.config import plain
from stages.identity import (
    drop_null,
    identify_checkpoint,
    identify_output,
    identify_views,
    pin_files,
)
from stages.stage import Output, Run, Stage, Training

logger = logging.getLogger(__name__)


def name_images(data: SegmentationDataModule, splits: Splits) -> list[str]:
    """List the names of the images of one or several splits."""
    return [record.name for record in data.read_records(splits)]


@dataclass(frozen=True)
class StageBuilder:
    """Build one stage from its node, which stands at `place` in the config."""

    cfg: DictConfig
    place: str
    node: DictConfig
    run: Run
    learning: bool
    told: str = ""  # of how long it learns, if it does

    def build(self) -> Stage:
        """Build the data modules, the module and the records of a stage."""
        sections = self.read_sections()

        # the images: those that are missing show before weights are fetched
        training = self.build_training(sections) if self.learning else None
        if training is not None:
            training.data.read_records(training.split)
        whole = self.build_data(whole=self.build_whole_view())
        whole.read_records(whole.whole.split)

        # what learns, unless there is nothing to learn, and predicts
        module = self.make_module(whole.classes, whole.prompt_names, partial(name_images, whole))
        if self.told and learns(module):
            logger.info(self.told)
        return Stage(
            name=self.node.name,
            run=self.run,
            module=module,
            checkpoint=Path(self.node.runtime.checkpoint or ""),
            steps=Path(self.node.runtime.steps),
            training=training if learns(module) else None,
            output=self.build_output(sections, whole),
            reads={name: Path(folder) for name, folder in self.list_inputs().items()},
            config=self.describe(),
            adopted=None if self.adopted is None else self.adopted.path,
        )

    def describe(self) -> dict[str, Any]:
        """Describe the stage as resolved settings, for people to read."""
        return {**plain(self.node), "dataset": plain(self.cfg.dataset), "seed": self.run.seed}

    def list_inputs(self) -> dict[str, str]:
        """List the folders that the stage reads, to learn and to be applied."""
        learned, applied = self.node.training.inputs, self.node.prediction.inputs
        return drop_null({**plain(learned), **plain(applied)})

    @property
    def longest(self) -> int | None:
        """The longer side of the copies that stand for larger images."""
        return self.cfg.dataset.get("longest")

    @cached_property
    def adopted(self) -> NetworkCheckpoint | None:
        """The checkpoint that a module which is only applied is built from, if it is such."""
        if self.node.carried is None or self.learning:
            return None
        runtime = self.node.runtime
        path = find_network(self.run, Path(runtime.checkpoint), Path(runtime.steps))
        checkpoint = read_checkpoint(path)
        logger.info("%s knows %s", path, ", ".join(checkpoint.classes))
        return checkpoint

    def build_data(self, **views: Any) -> SegmentationDataModule:
        """Build the data set for the views that are asked for, and make it ready on disk.

        Names of classes are passed on as they are: text from files never becomes config.
        """
        build = instantiate(self.cfg.dataset, _convert_="all")
        if self.adopted is not None:
            build = partial(build, classes=self.adopted.classes, prompt_names=None)
        data = build(labelled=self.node.labelled, loading=self.build_loading(), **views)
        data.prepare_data()
        return data

    def build_loading(self) -> Loading:
        """Build how many processes load images."""
        loading = self.cfg.loading
        return Loading(self.node.runtime.workers, loading.persistent_workers, loading.start_method)

    def build_whole_view(self) -> WholeView:
        """Build how whole images are prepared, as the adopted checkpoint or the config says."""
        runtime, prediction = self.node.runtime, self.node.prediction
        view = instantiate(prediction.view, _convert_="all")
        if self.adopted is not None:
            configured = view["resize"] if self.names_builder(self.adopted) else None
            view["resize"] = build_resize(self.adopted, configured)
            view["normalise"] = Normaliser(self.adopted.image_mean, self.adopted.image_std)
        if prediction.seen_as is not None:
            view["resize"] = instantiate(prediction.seen_as)
        return WholeView(
            longest=self.longest if self.node.carried is None else None,
            split=plain(runtime.apply_to),
            batch_size=runtime.batch_size,
            truths=runtime.truths,
            originals=runtime.originals,
            cams_of=plain(runtime.cams_of),
            **view,
            **drop_null(plain(prediction.inputs)),
        )

    def build_validation_view(self, whole: WholeView) -> WholeView | None:
        """Build how images to validate on are prepared; None where the data set names none."""
        validation = instantiate(self.node.runtime.validation, _convert_="all")
        if validation["split"] is None:
            return None
        return WholeView(
            split=validation["split"],
            images=validation["images"],
            resize=validation["resize"] or whole.resize,
            normalise=whole.normalise,
            batch_size=whole.batch_size,
            truths=True,
            longest=whole.longest,
        )

    def make_module(
        self,
        classes: Sequence[str],
        prompt_names: Sequence[str] = (),
        list_images: Callable[[Splits], list[str]] | None = None,
        prompts: Callable[..., Any] | None = None,
    ) -> L.LightningModule:
        """Build what learns and predicts; missing weights show here, before any work starts.

        `prompts` stand in place of those of the config.
        """
        L.seed_everything(self.run.seed, verbose=False)
        node = self.node

        # the settings of all sections
        learning = node.learning.copy()
        if self.adopted is not None:  # its network, and no weights that the config's starts from
            learning.network = learning.weights = None
        arguments: dict[str, Any] = {}
        for section in (learning, node.applying, node.runtime.arguments):
            arguments |= instantiate(section, _convert_="all")
        if self.adopted is not None:
            arguments["network"] = self.choose_network(self.adopted)
        if prompts is not None:
            arguments["prompts"] = prompts

        # and what a module is told beside them
        told: dict[str, Any] = {"classes": list(classes), "prompt_names": list(prompt_names)}
        told["list_images"] = list_images
        told |= {"config": self.describe(), "carried": self.describe_carried()}
        arguments |= {name: told[name] for name in node.takes}
        build = instantiate(node.model, _partial_=True, _convert_="all")
        module: L.LightningModule = build(**arguments)
        if node.runtime.compile:
            module.compile_parts()
        return module

    def describe_carried(self) -> dict[str, Any]:
        """Describe what a checkpoint brings along, if that of this stage does."""
        adopted = self.adopted
        if adopted is not None:
            size, mean, std = adopted.resize, adopted.image_mean, adopted.image_std
            return describe_network(adopted.network, size, mean, std)
        return {} if self.node.carried is None else describe_network(**plain(self.node.carried))

    def choose_network(self, adopted: NetworkCheckpoint) -> Callable[..., Any]:
        """Return what builds the network of a checkpoint: its file, or the config that names it."""
        if not self.names_builder(adopted):
            return choose_builder(adopted)
        return choose_builder(adopted, instantiate(self.node.learning.network, _convert_="all"))

    def names_builder(self, adopted: NetworkCheckpoint) -> bool:
        """Say whether the config names a builder that its checkpoint may not choose."""
        named = self.node.learning.network._target_ == adopted.network["_target_"]
        return bool(named) and adopted.network["_target_"] not in NETWORKS

    def read_sections(self) -> dict[str, Any]:
        """Return the sections of the node as plain data, places left as names, files as content."""
        named = self.cfg.copy()
        for key in named.paths:
            named.paths[key] = f"<{key}>"
        node = OmegaConf.select(named, self.place)
        for key in ("output", "overlays"):
            node.runtime[key] = f"<{key}>"
        for section in (node.training.inputs, node.prediction.inputs):
            for key in drop_null(section):
                section[key] = f"<{key}>"
        sections = pin_files(plain(node), plain(self.node))
        sections["writers"] = plain(node.writers)  # their files are written, not read
        if self.adopted is not None:
            carried = self.describe_carried()
            sections["prediction"]["view"]["resize"] = carried["resize"]
            for key in ("mean", "std"):
                sections["prediction"]["view"]["normalise"][key] = carried[f"image_{key}"]
        return sections

    def build_training(self, sections: Mapping[str, Any]) -> Training | None:
        """Build how the stage learns; None for one that does not."""
        node, section = self.node, self.node.training
        if section.view is None:
            return None

        # Its images, to learn from and to validate on
        inputs = drop_null(plain(section.inputs))
        view = {"crop_labels": keep_image_labels, **instantiate(section.view, _convert_="all")}
        data = self.build_data(
            training=TrainingView(seed=self.run.seed, longest=self.longest, **view, **inputs),
            validation=self.build_validation_view(self.build_whole_view()),
        )

        # How long, and who watches
        validates = node.runtime.val_every is not None
        return Training(
            data=data,
            split=plain(section.view.split),
            inputs={name: Path(folder) for name, folder in inputs.items()},
            identity=identify_checkpoint(sections, data, self.run),
            view=identify_views(sections, data, self.run),
            loop=plain(section.loop),
            save_every=node.runtime.save_every,
            val_every=node.runtime.val_every,
            watchers=instantiate(node.runtime.watchers) if validates else {},
            averaging=list(instantiate(section.averaging).values()),
        )

    def build_output(self, sections: Mapping[str, Any], data: SegmentationDataModule) -> Output:
        """Build what the stage makes of whole images."""
        runtime, inputs = self.node.runtime, drop_null(plain(self.node.prediction.inputs))
        return Output(
            path=Path(runtime.output),
            data=data,
            inputs={name: Path(folder) for name, folder in inputs.items()},
            identity=identify_output(sections, data, self.run),
            make_writers=self.make_writers,
            also_scored=plain(runtime.also_scored),
            grows=runtime.grows,
            keeps_changed=runtime.keeps_changed,
            apply_step=runtime.apply_step,
            exports=instantiate(runtime.exports, _convert_="all"),
        )

    def make_writers(self, names: Sequence[str]) -> list[L.Callback]:
        """Build what writes the output, what goes beside it, and the `callbacks` group.

        `names` are those of all images, for what shows some of them.
        """
        runtime = self.node.runtime
        own = instantiate(self.node.writers, _convert_="all").values()
        beside = instantiate(runtime.writers, _convert_="all").values()
        told = [writer(names=names) if isinstance(writer, partial) else writer for writer in beside]
        shared = instantiate(self.cfg.callbacks, _convert_="all") if runtime.pictures else {}
        drawn = [build(product=runtime.output, names=names) for build in shared.values()]
        return [*own, *told, *drawn]

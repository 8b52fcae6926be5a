"""What a person has corrected, as a region memory takes it: exact values, trusted seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fmawsss.files.corrected import TrustedMasks, open_corrected
from fmawsss.files.regions import show_classes, value_regions
from fmawsss.files.storage import read_superpixels
from fmawsss.memory import ImageRegions
from fmawsss.seeding import Seed
from fmawsss.superpixels import Superpixels
from fmawsss.trust import (
    correct_values,
    enlarge_seed,
    fit_trusted,
    lay_trusted,
    list_trusted_classes,
)


@dataclass(frozen=True)
class CorrectedRegions:
    """The regions of images, some of which a person has corrected.

    masks: None where nobody did.
    superpixels: the folder of the superpixels.
    """

    masks: TrustedMasks | None
    superpixels: Path

    @classmethod
    def open(
        cls, folder: str | Path | None, classes: Sequence[str], superpixels: Path
    ) -> CorrectedRegions:
        """Open a folder of trusted masks; None for none."""
        masks = None if folder is None else open_corrected(Path(folder), classes)
        return cls(masks, superpixels)

    def has(self, name: str) -> bool:
        """Say whether anybody corrected an image."""
        return self.masks is not None and name in self.masks

    def read(self, name: str) -> UInt8[Tensor, "A B"] | None:
        """Read the trusted mask of an image; None for one that nobody corrected."""
        return None if self.masks is None else self.masks.read(name)

    def value(self, name: str, regions: ImageRegions, classes: int) -> tuple[Tensor, Tensor]:
        """Return the values of the regions of an image, (M, R), and its classes, multi-hot.

        Of a corrected image they are what is known of them, and trusted classes count as its own.
        """
        values, labels = value_regions(name, regions, classes)
        trusted = self.read(name)
        if trusted is None:
            return values, labels
        superpixels = read_superpixels(self.superpixels / f"{name}.npz")
        return correct_regions(values, labels, trusted, superpixels)

    def show(self, name: str, regions: ImageRegions, classes: int) -> Bool[Tensor, "C"]:
        """Return the classes of an image alone, multi-hot."""
        labels, trusted = show_classes(regions, classes), self.read(name)
        return labels if trusted is None else labels | list_trusted_classes(trusted, classes)


def correct_regions(
    values: Float[Tensor, "M R"],
    labels: Bool[Tensor, "C"],
    trusted: UInt8[Tensor, "A B"],
    superpixels: Superpixels,
) -> tuple[Tensor, Tensor]:
    """Return values of regions and classes with what a trusted mask says of both."""
    fitting = fit_trusted(trusted, superpixels.size)
    return (
        correct_values(values, fitting, superpixels),
        labels | list_trusted_classes(trusted, len(labels)),
    )


def lay_over(seeds: dict[str, Seed], trusted: UInt8[Tensor, "A B"]) -> dict[str, Seed]:
    """Lay trusted pixels over the last of some seeds; all get the size of the image."""
    size = (trusted.shape[0], trusted.shape[1])
    *_, last = seeds
    enlarged = {kind: enlarge_seed(seed, size) for kind, seed in seeds.items()}
    return {**enlarged, last: lay_trusted(seeds[last], trusted)}

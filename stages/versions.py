"""Versions of our own code that makes products: a number is raised when results change.

One more counts only for products of data sets that hold such files:
`fmawsss.files.images.TURNED_TIFFS`.
"""

from __future__ import annotations

# A LightningModule names those that make its checkpoint (`learned_by`) and its output (`made_by`)
VERSIONS = {
    "prompt training": 1,
    "CAM activation loss": 2,  # 2: the peak is at least 0 where a seed fills the map, too
    "network training": 1,
    "CAM": 1,
    "CAA": 1,
    "SAMS": 1,
    "region memory": 1,
    "text prompts": 1,
    "superpixels": 1,
    "network inference": 1,
    "label proposals": 1,
    "template ranking": 1,
}


def list_versions(module: object, products: str) -> dict[str, int]:
    """List the versions of the code that makes a module's products (`learned_by` or `made_by`).

    A module from outside the package need not name any.
    """
    return {name: VERSIONS[name] for name in getattr(module, products, ())}

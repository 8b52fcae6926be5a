"""A share of the images for one of several independent processes: shard=3/16."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One of `count` shares, dealt by position in the list, whatever is done already."""

    number: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Read `3/16`, the third of sixteen; None is everything.

        Raises:
            ValueError: for anything else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", "1/1" if text is None else str(text).strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(
                f"shard={text}: expected number/count, from 1/16 to 16/16 for sixteen processes"
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def is_whole(self) -> bool:
        """Say whether there is only one."""
        return self.count == 1

    def choose(self, names: Sequence[str]) -> set[str]:
        """Choose the names of this share."""
        return set(names[self.number - 1 :: self.count])


def choose_shard(text: str | None, overwrite: bool, product: Path) -> Shard:
    """Read `shard`; raise ValueError where one shard would remove what the others made."""
    shard = Shard.parse(text)
    if overwrite and not shard.is_whole:
        raise ValueError(
            f"overwrite=true would remove what other shards made: remove {product} and "
            f"{product.name}.json beside it, then start all shards without overwrite"
        )
    return shard

"""The installed program: `fmawsss train …` and `fmawsss infer …`, from any folder.

They are `python train.py …` and `python infer.py …` of a checkout, which lie in `_app` once the
package is installed, with everything that they import.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from fmawsss import __version__

PACKAGE = Path(__file__).parent
DOORS = ("train", "infer")
USAGE = """\
fmawsss train …   learns a stage, or all of them in turn: fmawsss train --help
fmawsss infer …   applies one, and does the other tasks: fmawsss infer --help
fmawsss --version"""


def main() -> None:
    """Open one of both doors; every word behind its name is for it."""
    word = "".join(sys.argv[1:2])
    if word in DOORS:
        open_door(word)
    elif word == "--version":
        sys.stdout.write(f"fmawsss {__version__}\n")
    elif word in ("--help", "-h"):
        sys.stdout.write(f"{USAGE}\n")
    else:
        sys.exit(f"{word or 'no word'}: expected train or infer\n{USAGE}")


def open_door(name: str) -> None:
    """Run a door as `python train.py` does: workers and further processes start from its file."""
    app = find_app()
    sys.path.insert(0, str(app))
    sys.argv = [str(app / f"{name}.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


def find_app() -> Path:
    """Find the folder of both doors: within the installed package, or the checkout itself."""
    installed = PACKAGE / "_app"
    return installed if installed.is_dir() else PACKAGE.parent


if __name__ == "__main__":
    main()

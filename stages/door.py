"""The door of both programs: what fails prints two lines at most and ends the program with 1.

`HYDRA_FULL_ERROR=1`, Hydra's own variable, shows the traceback instead.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from stages.devices import choose_by_device
from stages.failures import explain
from stages.places import make_folder, make_run_folder
from stages.signals import answer_signals
from stages.typed import check_typed
from stages.words import name_program, translate_command

logger = logging.getLogger(__name__)

CODE = Path(__file__).parents[1]
FULL = "HYDRA_FULL_ERROR"
OURS = "FMAWSSS_RAISES"  # beside `FULL`: set by us, here or in the process that started this one


def register_resolvers() -> None:
    """Teach configs what they ask for by name.

    `${folder:PATH,setting}` is a folder, see `make_folder`, `${run_folder:…}` that of a run;
    `${last:PATH}` the name of one;
    `${device:ONE,OTHER}` the first value on the CPU, the other where trainer=auto finds a GPU;
    `${program:train}` how that program is started here.
    """
    OmegaConf.register_new_resolver("folder", make_folder, replace=True)
    OmegaConf.register_new_resolver("run_folder", make_run_folder, replace=True)
    OmegaConf.register_new_resolver("last", lambda path: Path(path).name, replace=True)
    OmegaConf.register_new_resolver("device", choose_by_device, replace=True)
    OmegaConf.register_new_resolver("program", name_program, replace=True)


def enter(run: Callable[[], None]) -> None:
    """Translate the command line and run the program."""
    with answer_signals(), end_in_words(), let_hydra_raise():
        share_path()
        translate_command()
        check_flags()
        refuse_swept_plan()
        check_typed(sys.argv[1:])
        run()


def share_path() -> None:
    """Let processes that this one starts find our packages from any folder, at once.

    A server of loader workers forgets `sys.path`, and would leave every import to each worker.
    """
    known = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    if str(CODE) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CODE), *known])


def announce(cfg: Mapping[str, Any]) -> None:
    """Say what begins, before the libraries are loaded, which takes seconds."""
    logger.info("task=%s dataset=%s: loading libraries", cfg["name"], cfg["paths"]["dataset"])


def check_flags() -> None:
    """Raise ValueError for flags that Hydra does not know; its parser would print pages.

    Hydra offers this parser nowhere but in a private place.
    """
    parser = get_args_parser()
    parser.error = refuse_flags  # type: ignore[method-assign,assignment]
    parser.parse_args()


def refuse_swept_plan() -> None:
    """Raise ValueError for a plan of several runs."""
    planned = any(word.startswith("options.plan=") for word in sys.argv)
    if planned and {"-m", "--multirun"} & {*sys.argv}:
        raise ValueError("plan=true is for one run: leave out -m, and plan one of its jobs")


def refuse_flags(message: str) -> NoReturn:
    """Raise what a parser found wrong."""
    raise ValueError(f"{message}; flags stand before or after all other words, see --hydra-help")


@contextmanager
def end_in_words() -> Iterator[None]:
    """End the program with what an error says, unless tracebacks are asked for."""
    if os.environ.get(FULL) == "1" and OURS not in os.environ:
        yield
        return
    try:
        yield
    except Exception as error:
        sys.exit("\n".join(explain(error)))


@contextmanager
def let_hydra_raise() -> Iterator[None]:
    """Have Hydra raise errors that it would print with frames of its own."""
    if os.environ.get(FULL) == "1":
        yield
        return
    os.environ.update({FULL: "1", OURS: "1"})
    try:
        yield
    finally:
        del os.environ[FULL], os.environ[OURS]

"""What an error says to people: two lines at most, in the words of the command line.

A mistake of the user is an error that our code raises on purpose: its message is all that is
shown. Anything else is shown with its type and the place of its traceback.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hydra
import omegaconf
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

import fmawsss
from stages.words import name_key, name_programs, shorten_key

ROOMS = ("datamodules", "lightning_modules", "callbacks", "stages", "conf")
SPEAKERS = (
    Path(fmawsss.__file__).parent,
    *(Path(__file__).parents[1] / room for room in ROOMS),
    Path(hydra.__file__).parent,
    Path(omegaconf.__file__).parent,
)
DELIBERATE = (ValueError, TypeError, RuntimeError, ImportError)
LISTED = 3  # items of a list in a message
LONGEST = 700  # characters of a line
KEY = re.compile(r"full_key: (\S+)")
OPTION = re.compile(r"Could not (?:find|load) '(?P<group>.+)/(?P<name>.*)'")
UNKNOWN = re.compile(r"Could not override '(?P<key>[^']+)'")
ASIDE = re.compile(r"\s+(full_key|object_type|reference_type)[:=]|See https|Set the environment")
AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*)'\n")
TWICE = re.compile(r"Multiple values for |appears more than once")
UNNAMED = re.compile(r"Config group override must be|Error resolving interpolation '\$\{(\w+)\}_")
RAISED = re.compile(r"\w+ raised while resolving interpolation: (.+)")
CONF = Path(__file__).parents[1] / "conf"
EXTRAS = {  # libraries that only some runs need, by what they are imported as
    "faiss": "index",
    "fastapi": "serve",
    "gradio": "demo",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "optuna": "sweeps",
    "pycocotools": "coco",
    "python_multipart": "serve",
    "segmentation_models_pytorch": "networks",
    "starlette": "serve",
    "timm": "networks",
    "transformers": "networks",
    "uvicorn": "serve",
}
ELSEWHERE = "HYDRA_FULL_ERROR=1 shows the traceback"


def explain(error: BaseException) -> list[str]:
    """Say what went wrong, in one line or two."""
    error, place = unwrap(error)
    if missing := name_extra(error):
        lines = [missing]
    elif isinstance(error, OverrideParseException):
        lines = [explain_grammar(error)]
    elif isinstance(error, HydraException | OmegaConfBaseException) or UNNAMED.match(str(error)):
        lines = [reword(error)]
    elif isinstance(error, OSError) and error.filename is not None:
        lines = [f"{error.filename}: {error.strerror}"]
    elif isinstance(error, UnicodeDecodeError) and (files := find_other_encodings()):
        lines = [f"{', '.join(files)}: no text in UTF-8 ({error.reason}); save it again as such"]
    elif is_deliberate(error):
        lines = condense(str(error).splitlines())
    elif place and isinstance(error, TypeError | ImportError | AttributeError):
        lines = [f"{place}: {join_lines(str(error))}"]
    else:
        notes = getattr(error, "__notes__", [])
        lines = [f"{type(error).__name__}: {join_lines(str(error))}", *(notes[-1:] or [ELSEWHERE])]
    lines = [name_programs(line) for line in lines]
    return [line if len(line) <= LONGEST else line[:LONGEST] + " …" for line in lines]


def unwrap(error: BaseException) -> tuple[BaseException, str]:
    """Return the error that Hydra or OmegaConf wrapped, and the key where it arose, if any."""
    place = ""
    while error.__cause__ is not None and wraps(error):
        key = KEY.search(str(error))
        place = shorten_key(key[1]) if key else place
        inner = error.__cause__
        for note in getattr(error, "__notes__", []):
            inner.add_note(note)
        error = inner
    return error, place


def wraps(error: BaseException) -> bool:
    """Say whether an error only carries another one."""
    hollow = isinstance(error, HydraException) and not str(error)
    return hollow or isinstance(error, InstantiationException | InterpolationResolutionError)


def is_deliberate(error: BaseException) -> bool:
    """Say whether our own code, or Hydra, raised the error with a message for people."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    file = Path(__file__) if frame is None else Path(frame.tb_frame.f_code.co_filename)
    ours = any(file.is_relative_to(folder) for folder in SPEAKERS)
    return isinstance(error, OSError) or (ours and isinstance(error, DELIBERATE))


def name_extra(error: BaseException) -> str:
    """Say which extra brings a library that is missing; nothing for any other error.

    Hydra wraps what it met as it looked for a `_target_`; errors of ours say the extra themselves.
    """
    cause = error.__cause__ if str(error).startswith("Error loading") else error
    name = (cause.name or "") if isinstance(cause, ModuleNotFoundError) else ""
    library = name.partition(".")[0]
    if library not in EXTRAS:
        return ""
    return f'{library} is not installed, and is needed here: pip install -e ".[{EXTRAS[library]}]"'


def condense(lines: Sequence[str]) -> list[str]:
    """Bring a message of several lines into two; indented lines are a list, which is cut.

    >>> condense(["a.ckpt differs:", "  x: 1", "  y: 2", "  z: 3", "  w: 4", "Do this."])
    ['a.ckpt differs:', 'x: 1; y: 2; z: 3; and 1 more. Do this.']
    """
    lines = [line for line in lines if line.strip()]
    if len(lines) <= 2:
        return lines or ["failed without a message"]
    items = [line.strip() for line in lines[1:] if line.startswith((" ", "\t"))]
    said = [line.strip() for line in lines[1:] if not line.startswith((" ", "\t"))]
    more = [f"and {len(items) - LISTED} more"] if len(items) > LISTED else []
    listed = "; ".join([*items[:LISTED], *more])
    return [lines[0], ". ".join([*filter(None, [listed]), " ".join(said)]).rstrip(". ") + "."]


def join_lines(text: str) -> str:
    """Put a message into one line."""
    return " ".join(text.split())


def explain_grammar(error: OverrideParseException) -> str:
    """Say which word of the command line cannot be read."""
    reason = str(error).splitlines()
    said = next(line for line in reason if not line.startswith("Error parsing"))
    return (
        f"{error.override}: not to be read as KEY=VALUE ({said}); "
        "quote a value with special characters twice: KEY='\"a [b]\"'"
    )


def reword(error: BaseException) -> str:
    """Say what Hydra or OmegaConf met in one line, with the short names of keys."""
    text = str(error)
    if isinstance(error, MissingConfigException) and (found := OPTION.search(text)):
        known = error.options or list_options(found["group"])
        options = ", ".join(name for name in known if not name.startswith("_"))
        option = f"{found['group']}={found['name']}: there is no such option"
        return f"{option}; choose from {options}" if options else option
    if found := UNKNOWN.search(text):
        return refuse_key(found["key"])
    if found := AMBIGUOUS.search(text):
        key, _, values = found[1].partition("=")
        several = f"{shorten_key(key)}=[{values}]"
        return f"{shorten_key(key)}={values}: several values; a list is {several}, -m tries each"
    if TWICE.search(text) and (added := find_options(r"\+")):
        return f"{added}: an option is chosen already; without the +, it is replaced"
    if UNNAMED.search(text) and (odd := find_options(r"[^=]+=([-\d.]+|true|false|null|\[.*)$")):
        return f"{odd}: expected the name of one option"
    key = KEY.search(text)
    said = join_lines("\n".join(line for line in text.splitlines() if not ASIDE.match(line)))
    if found := RAISED.match(said):
        return found[1]
    typed = [word for word in sys.argv[1:] if "${" in word]
    place = shorten_key(key[1]) if key else ", ".join(typed)
    return f"{place}: {said}" if place else said


def find_options(pattern: str) -> str:
    """Find the words of the command line that choose an option and match a pattern."""
    words = [word for word in sys.argv[1:] if re.match(pattern, word)]
    return ", ".join(word for word in words if list_options(name_key(word)))


def list_options(group: str) -> list[str]:
    """List the options of a group: the files of its folder, or what one file holds."""
    store, files = ConfigStore.instance(), (CONF / group).glob("*.yaml")
    kept = store.list(group) if store.get_type(group) is ObjectType.GROUP else []
    return sorted({*(path.stem for path in files), *(name.removesuffix(".yaml") for name in kept)})


def find_other_encodings() -> list[str]:
    """Find the YAML of the user's own folders (--config-dir) that is no text in UTF-8."""
    found = []
    words = " ".join(sys.argv[1:]).replace("--config-dir=", "--config-dir ").split()
    for flag, folder in pairwise(words):
        for path in Path(folder).glob("**/*.yaml") if flag in ("--config-dir", "-cd") else ():
            try:
                path.read_text("utf-8")
            except UnicodeDecodeError:
                found.append(str(path))
    return found


def refuse_key(key: str) -> str:
    """Say that there is no such key, and where it may be meant to stand."""
    short = shorten_key(key.partition("@")[0])
    if short == "save_as":
        return (
            "save_as has no part in train.py: finished masks are written for other tools by "
            "`python infer.py task=network save_as=[…]`, with the same words"
        )
    if key.startswith("stage.") or key.partition("@")[2].startswith("stage"):
        return (
            f"{short}: the stage of this task has no such key, or a pipeline needs its name "
            f"(task=cls {short}=…, stages.cls.{short}=…); --cfg job shows all keys"
        )
    return f"{short}: there is no such key; --cfg job shows all keys, +{short}=… adds one"

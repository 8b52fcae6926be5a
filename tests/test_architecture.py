"""The rooms of the house: who may import whom, no circle, and each file in its room."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import lightning as L
import pytest
from front_door import ROOT

from stages.versions import VERSIONS

ROOMS = ("fmawsss", "datamodules", "lightning_modules", "callbacks", "stages")
DOORS = ("train", "infer")

# What a room may import beside the standard library; the others: anything but what is forbidden
BASICS = {"torch", "numpy", "jaxtyping"}
ALLOWED = {
    "datamodules": {"fmawsss", "lightning", "albumentations", "cv2", "PIL", "pycocotools"},
    "lightning_modules": {"fmawsss", "lightning", "torchmetrics"},
    "callbacks": {"fmawsss", "lightning", "rich"},
}
HYDRA = {"hydra", "omegaconf"}
FORBIDDEN = {
    "fmawsss": {"lightning", "wandb", *HYDRA, *ROOMS[1:], *DOORS},
    "stages": {*HYDRA, *DOORS},
    "train": {"infer"},
    "infer": {"train"},
}
# Know Hydra's objects
CONFIG_FILES = {
    "stages.config", "stages.assembly", "stages.builder", "stages.failures", "stages.door",
    "stages.idle_words", "stages.jobs.start", "stages.typed", "stages.plan.small",
    "stages.plan.run", "stages.plan.advice",
}  # fmt: skip

# Method files know neither disk nor clock
METHOD = (
    "fmawsss", "fmawsss.clip", "fmawsss.dino", "fmawsss.sam", "fmawsss.text_prompted",
)  # fmt: skip
WORLD = {
    "pathlib", "os", "io", "shutil", "tempfile", "glob", "zipfile", "json", "csv", "pickle",
    "time", "datetime", "random", "subprocess", "urllib", "socket",
}  # fmt: skip
LOADERS = {
    "fmawsss.__main__": "opens both doors",
    "fmawsss.records": "says where an image lies",
    "fmawsss.contexts": "loads contexts that others have learned",
    "fmawsss.templates": "loads a ranking of templates",
    "fmawsss.clip.weights": "loads CLIP",
    "fmawsss.dino.weights": "loads DINO",
    "fmawsss.sam.generator": "loads SAM",
    "fmawsss.sam.mobile": "loads MobileSAM",
    "fmawsss.sam.sam2": "loads SAM 2",
    "fmawsss.text_prompted.phrases": "checks what people wrote",
    "fmawsss.text_prompted.weights": "loads models of transformers",
    "fmawsss.text_prompted.sam3": "loads SAM 3",
    "fmawsss.text_prompted.grounding_dino": "loads Grounding DINO",
}

# What `ls fmawsss` shows
METHOD_FILES = {
    "superpixels", "prompts", "contexts", "templates", "cam", "losses", "label_losses", "affinity",
    "class_distribution", "encoder_affinity", "scenes", "scores", "pooling", "seeding",
    "seeding_batches", "memory", "memory_keys", "memory_search", "memory_index", "trust", "choice",
    "agreement", "metrics", "schedules", "resizing", "precision", "transfer", "viz", "records",
}  # fmt: skip
METHOD_FOLDERS = {"clip", "dino", "sam", "text_prompted", "networks", "files", "tiny"}

LONGEST = 300  # lines of a file
LONGER: dict[str, str] = {}  # files with more lines, and why


@cache
def list_modules() -> dict[str, Path]:
    """Map the names of all modules of the project to their files."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    paths += [ROOT / f"{door}.py" for door in DOORS]
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in paths}
    return {".".join(part).removesuffix(".__init__"): path for path, part in parts.items()}


@cache
def list_imports(module: str) -> frozenset[str]:
    """List what a module imports anywhere, for types and within functions too."""
    found = set()
    for node in ast.walk(ast.parse(list_modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found.update(name_imports(node))
    return frozenset(found)


def name_imports(node: ast.ImportFrom) -> Iterator[str]:
    """Name the modules that one `from … import …` reads."""
    for name in node.names:
        inner = f"{node.module}.{name.name}"
        yield inner if inner in list_modules() else str(node.module)


def list_packages(module: str) -> set[str]:
    """List the packages that a module imports."""
    return {name.split(".")[0] for name in list_imports(module)}


def list_room(room: str) -> list[str]:
    """List the modules of a room, or the door of that name."""
    return [name for name in list_modules() if name.split(".")[0] == room]


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_what_they_may(room):
    allowed = ALLOWED[room] | BASICS | sys.stdlib_module_names | {room}
    strange = {name: list_packages(name) - allowed for name in list_room(room)}
    assert not {name: found for name, found in strange.items() if found}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_do_not_know_what_they_must_not(room):
    modules = [name for name in list_room(room) if name not in CONFIG_FILES]
    known = {name: list_packages(name) & FORBIDDEN[room] for name in modules}
    assert not {name: found for name, found in known.items() if found}


def test_method_files_know_neither_disk_nor_clock():
    modules = [name for name in list_modules() if name.rpartition(".")[0] in METHOD]
    packages = {name for name in modules if list_modules()[name].stem == "__init__"}
    pure = sorted({*modules} - LOADERS.keys() - packages)
    known = {name: list_packages(name) & WORLD for name in pure}
    known |= {name: {"fmawsss.files"} for name in pure if reads_files(name)}
    assert not {name: found for name, found in known.items() if found}


def reads_files(module: str) -> bool:
    """Say whether a module imports something of `fmawsss.files`."""
    return any(name.startswith("fmawsss.files") for name in list_imports(module))


def test_loaders_are_needed():
    for module in LOADERS:
        assert reads_files(module) or list_packages(module) & WORLD, module


def test_nothing_imports_in_a_circle():
    """Depth first: a module that is met again on the way to itself closes a circle."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join([*way[way.index(module) :], module])
        if module not in done:
            for name in sorted(list_imports(module) & list_modules().keys()):
                visit(name, (*way, module))
            done.add(module)

    for module in list_modules():
        visit(module, ())


@pytest.mark.parametrize("name", [n for n in list_room("callbacks") if n != "callbacks"])
def test_every_module_in_callbacks_defines_a_callback(name):
    classes = inspect.getmembers(import_module(name), inspect.isclass)
    own = [made for _, made in classes if made.__module__ == name]
    assert any(issubclass(made, L.Callback) for made in own)


def test_the_file_list_is_the_method():
    files = {path.stem for path in (ROOT / "fmawsss").glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in (ROOT / "fmawsss").glob("*/__init__.py")}
    assert files <= METHOD_FILES
    assert folders == METHOD_FOLDERS


@pytest.mark.parametrize("door", DOORS)
def test_doors_are_small(door):
    assert len((ROOT / f"{door}.py").read_text().splitlines()) <= 80


def test_files_are_short():
    paths = {str(path.relative_to(ROOT)): path for path in list_modules().values()}
    lines = {name: len(path.read_text().splitlines()) for name, path in paths.items()}
    assert not {name: n for name, n in lines.items() if n > LONGEST and name not in LONGER}
    assert all(lines[name] > LONGEST for name in LONGER)


def test_modules_name_the_versions_of_the_code_that_makes_their_products():
    used = set()
    for name in list_room("lightning_modules"):
        for _, made in inspect.getmembers(import_module(name), inspect.isclass):
            if hasattr(made, "made_by") and not inspect.isabstract(made):
                used.update(made.learned_by, made.made_by)
    assert used == set(VERSIONS)


def test_the_method_loads_neither_lightning_nor_hydra():
    code = "import sys, importlib\n"
    code += f"for name in {list_room('fmawsss')}: importlib.import_module(name)\n"
    code += "assert not {'lightning', 'hydra'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

"""Files come into being through one writer: `fmawsss/files/writing.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from test_architecture import list_modules

WRITES = {"write_text", "write_bytes", "savefig", "imwrite", "tofile", "dump", "save", "save_file"}
WRITES |= {"savez", "savez_compressed", "copy", "copy2", "copyfile", "copyfileobj", "move"}
MODULES = {"shutil", "torch", "np", "json"}  # whose functions of these names write to a path
MODE = re.compile(r"['\"](?=[rwaxbt+]{1,4}['\"])\w*[wax+]")  # one that writes
MEMORY = {"BytesIO", "StringIO"}

# Modules that write by themselves, and why that is whole or not at all
OWN = {
    "fmawsss.files.writing": "the writer",
    "fmawsss.files.downloads": "goes on where a download ended, checks it, then renames it",
    "datamodules.shapes": "draws a folder under a temporary name",
    "datamodules.sources": "takes a film apart into a folder under a temporary name",
    "callbacks.label_writer": "appends rows to a table that people edit, a batch at once",
    "stages.plan.rehearsal": "tells the kernel to forget the peak of memory",
    "stages.corrections.archives": "copies a file of an archive into a folder for a while",
    "stages.jobs.prepare_voc": "moves images, then lists them",
    "stages.serve.bodies": "keeps an upload in a temporary folder while it is answered",
    "stages.serve.task_images": "keeps a fetched image in the same way",
}


def list_writes(module: str) -> Iterator[int]:
    """List the lines where a module writes to a path, but for those below `replace_file`."""
    tree = ast.parse(list_modules()[module].read_text())
    whole = {id(inner) for node in ast.walk(tree) if replaces(node) for inner in ast.walk(node)}
    memory = {name for node in ast.walk(tree) for name in name_memory(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in whole and writes(node, memory):
            yield node.lineno


def replaces(node: ast.AST) -> bool:
    """Say whether a block writes to the temporary name of the writer."""
    if not isinstance(node, ast.With):
        return False
    calls = [item.context_expr for item in node.items]
    return any("replace_file" in ast.unparse(call) for call in calls)


def name_memory(node: ast.AST) -> Iterator[str]:
    """Name the variable that an assignment binds to a file in memory."""
    if isinstance(node, ast.Assign) and any(word in ast.unparse(node.value) for word in MEMORY):
        yield from (ast.unparse(target) for target in node.targets)


def writes(call: ast.Call, memory: set[str]) -> bool:
    """Say whether a call writes to a path: by its name, or the mode that it opens a file with."""
    if not isinstance(call.func, ast.Attribute | ast.Name):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(ast.unparse(argument) in memory for argument in arguments):
        return False
    if name == "open":
        texts = [ast.unparse(argument) for argument in arguments]
        return any(MODE.search(text) for text in texts)
    if name in {"copy", "dump"}:
        return owner in MODULES
    return isinstance(call.func, ast.Attribute) and name in WRITES and bool(arguments)


def test_files_are_written_by_one_writer():
    found = {name: list(list_writes(name)) for name in list_modules()}
    assert not {name: lines for name, lines in found.items() if lines and name not in OWN}


def test_modules_that_write_by_themselves_do():
    idle = [name for name in OWN if not list(list_writes(name))]
    assert not idle

"""Bad inputs that are met seldom: other words, pictures, tables and annotations."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from . import coco
from .images import COLOUR, JPEG, NETWORK, PNG, SCORE, TRUTHS, photo
from .judge import BadInput
from .labels import GOOD, HEADER, UTF8, listed, table, xml
from .project import FOLDER, LABELLED, infer, train
from .spoil import Prepare, encode, in_place, link_to, write

WORK = "outputs/shapes"


def config(
    name: str, command: Sequence[str], names: str, tells: str, prepare: Prepare | None = None
) -> BadInput:
    """Values and words of the command line, and the user's own YAML."""
    return BadInput(name, "config", command, prepare, names, tells)


def own(name: str, text: str | bytes, names: str, tells: str) -> BadInput:
    """An experiment of the user's own."""
    data = text if isinstance(text, bytes) else text.encode()
    command = ["train.py", "--config-dir", "own", "experiment=mine", *train("superpixels")[1:]]
    return config(f"own_{name}", command, names, tells, write("own/experiment/mine.yaml", data))


def put_socket(path: Path) -> None:
    """Make a socket, which cannot be opened as a file."""
    here = Path.cwd()
    os.chdir(path.parent)  # a name of at most 108 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(here)


def drop_chunk(data: bytes, kind: bytes) -> bytes:
    """Leave the first chunk of a kind out of a PNG."""
    place = data.index(kind) - 4
    return data[:place] + data[place + 12 + int.from_bytes(data[place : place + 4]) :]


def twice(content: Any) -> str:
    """Write a JSON object that says a key twice."""
    text = json.dumps(content)
    return text[:-1] + ', "images": []}'


INDEXED = encode(Image.fromarray(COLOUR).quantize(8), "png")

CASES: list[BadInput] = [
    # the user's own YAML
    own("open", "a: [1", r"mine", "YAML|line|expected"),
    own(
        "latin_1",
        "# @package _global_\nseed: 1 # caf\xe9".encode("latin-1"),
        "mine",
        "save it again",
    ),
    own("list", "- a\n- b\n", "experiment=", "expected settings"),
    own("tabs", "a:\n\tb: 1\n", "mine", "line|tab|YAML"),
    own("python_tag", "a: !!python/object/apply:os.system [touch ran]\n", "mine", "YAML|tag|line"),
    own(
        "unknown_default",
        "# @package _global_\ndefaults:\n  - prompts: nope\n",
        "nope",
        "choose|option|override",
    ),
    # words that mean something else
    config("key_that_is_there_added", infer("cls", "+seed=1"), "seed", "without|append|there"),
    config(
        "key_of_its_own",
        infer("cls", "seed=${seed}"),
        "seed",
        "circle|itself|recursive|Recursive|refers",
    ),
    config("seed_of_many_digits", infer("cls", f"seed={10**30}"), "seed", "whole number"),
    config(
        "sweep_over_nothing",
        ["train.py", "-m", *train("cls", "seed=range(3,3)")[1:]],
        "seed",
        "name one or more",
    ),
    config(
        "unknown_launcher",
        ["train.py", "-m", *train("cls", "hydra/launcher=nope")[1:]],
        "launcher",
        "choose|basic",
    ),
    config("split_twice", infer("cls", "split=[train,train]"), "train", "once|twice|differ"),
    config(
        "fewer_prompt_names",
        train(
            "cls",
            *LABELLED,
            "dataset.classes=[circle,square,star]",
            "dataset.prompt_names=[a]",
            "overwrite=true",
        ),
        "prompt_names",
        "same length",
    ),
    config("folder_for_a_checkpoint", infer("network", f"ckpt={WORK}"), WORK, "checkpoint|file"),
    config(
        "photos_for_superpixels",
        train("cls", "data.superpixels=photos", "overwrite=true"),
        "photos",
        "superpixels",
    ),
    config(
        "seeds_for_cams",
        infer("seeds", "cams=photos", "overwrite=true"),
        "photos",
        "CAMs.*callbacks=cams",
    ),
    config(
        "masks_into_the_photos",
        infer("network", *FOLDER, "emits=photos", "overwrite=true"),
        "photos",
        "another|emits|elsewhere",
    ),
    config(
        "checkpoint_over_a_table",
        train("cls", *LABELLED, "learns=labels.csv", "overwrite=true"),
        r"labels\.csv",
        "another|learns|checkpoint",
    ),
    # pictures
    photo("gif_cut", write("photos/bad.gif", encode(COLOUR, "gif")[:900]), "bad.gif"),
    photo("avif_cut", write("photos/bad.avif", encode(COLOUR, "avif")[:700]), "bad.avif"),
    photo("jp2_cut", write("photos/bad.jp2", encode(COLOUR, "jpeg2000")[:700]), "bad.jp2"),
    photo("png_without_pixels", write("photos/bad.png", drop_chunk(PNG, b"IDAT")), "bad.png"),
    photo("png_without_palette", write("photos/bad.png", drop_chunk(INDEXED, b"PLTE")), "bad.png"),
    photo(
        "tiff_of_a_far_page",
        write("photos/bad.tif", b"II*\0\xff\xff\xff\x7f"),
        "bad.tif",
        check=True,
    ),
    photo(
        "jpeg_of_another_head",
        write(
            "photos/bad.jpg",
            JPEG.replace(b"\xff\xc0\0\x11\x08\0\x5a\0\x78", b"\xff\xc0\0\x11\x08\xff\xff\xff\xff"),
        ),
    ),
    photo("socket", in_place("photos/bad.jpg", put_socket)),
    BadInput(
        "name_in_no_encoding",
        "images",
        NETWORK,
        lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/photos/bad\xff.jpg")).write_bytes(
            JPEG
        ),
        "bad",
        "rename",
    ),
    BadInput(
        "mask_is_its_image",
        "images",
        SCORE,
        in_place(f"{TRUTHS}/val_00001.png", link_to("../JPEGImages/val_00001.jpg")),
        "val_00001",
        "no class mask",
    ),
    # tables, lists, annotations
    table("compressed", gzip.compress(GOOD.encode()), UTF8),
    table("semicolons_between_columns", GOOD.replace(",", "\t;"), HEADER),
    listed("a_table", GOOD, "names no class"),
    listed("zero_bytes", bytes(500), UTF8),
    xml("html", "<html><body><p>404</body></html>", "is not whole XML"),
    xml("json", '{"object": [{"name": "circle"}]}', "is not whole XML"),
    BadInput(
        "proposals_not_made",
        "labels",
        train(
            "cls",
            *FOLDER,
            "dataset/labels=zeroshot",
            "dataset.classes=[circle,star]",
            "paths.work=new",
        ),
        None,
        r"labels\.csv",
        "task=labels",
    ),
    # COCO
    coco.labels("a_key_twice", twice, "", "names no class"),
    coco.labels(
        "lines",
        lambda c: "\n".join(json.dumps(i) for i in c["images"]),
        coco.WHOLE,
        "write it again",
    ),
    coco.labels(
        "compressed", lambda c: gzip.compress(json.dumps(c).encode()), coco.WHOLE, "write it again"
    ),
    coco.regions("run_lengths_beyond", {"size": [112, 112], "counts": [10**9, 5]}, "RLE|run|size"),
]

"""Bad inputs: images and masks."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .judge import BadInput
from .project import FOLDER, infer, train
from .spoil import (
    Prepare,
    change_mask,
    change_png,
    cut,
    each,
    empty,
    encode,
    in_place,
    link_to,
    make_pipe,
    remove,
    write,
)

WHOLE = r"copy|convert|whole image|shrink|take it|unpack"
RNG = np.random.default_rng(0)
COLOUR = np.asarray(
    Image.fromarray(RNG.integers(0, 255, (9, 12, 3), np.uint8)).resize((120, 90)), np.uint8
)
JPEG, PNG = encode(COLOUR, "jpeg"), encode(COLOUR, "png")
CHECK = infer("check", "dataset=folder", "dataset.root=photos", "job.workers=0")
NETWORK = infer("network", *FOLDER)
TRUTHS = "data/shapes-0/SegmentationClass"
IMAGES = "data/shapes-0/JPEGImages"
CHECK_SHAPES = infer("check", "split=[train,val]", "job.workers=0")
SCORE = infer("network")
LEARN = train("cls", "overwrite=true")


def photo(name: str, prepare: Prepare, file: str = "bad.jpg", check: bool = False) -> BadInput:
    """Add a photo to those that have masks, then have it masked, or checked."""
    command = CHECK if check else NETWORK
    return BadInput(name, "images", command, prepare, file.replace(".", r"\."), WHOLE)


def image(name: str, prepare: Prepare, tells: str = WHOLE) -> BadInput:
    """Spoil an image of the training split, then train."""
    return BadInput(name, "images", LEARN, prepare, r"train_00001", tells)


def truth(name: str, prepare: Prepare, tells: str, check: bool = False) -> BadInput:
    """Spoil a mask of the validation split, then score masks, or check."""
    command = CHECK_SHAPES if check else SCORE
    return BadInput(name, "images", command, prepare, r"val_00001", tells)


def video(name: str, prepare: Prepare, tells: str, file: str = "clip.avi") -> BadInput:
    """Have the frames of a video masked."""
    words = [word for word in FOLDER if "root" not in word]
    command: Sequence[str] = infer("network", *words, f"dataset.root={file}")
    return BadInput(name, "images", command, prepare, file.replace(".", r"\."), tells)


def write_video(file: str, cut_off: bool) -> Prepare:
    """Write a video of 20 frames, and cut its second half off."""

    def prepare(folder) -> None:
        import cv2

        path = folder / file
        code = cv2.VideoWriter.fourcc(*"MJPG")
        writer = cv2.VideoWriter(str(path), code, 10, (120, 90))
        for _ in range(20):
            writer.write(RNG.integers(0, 255, (90, 120, 3), np.uint8))
        writer.release()
        if cut_off:
            path.write_bytes(cut(path.read_bytes()))

    return prepare


def ignore(mask: np.ndarray) -> np.ndarray:
    """Write 255 for every class."""
    return np.where(mask > 0, 255, 0).astype(np.uint8)


def drop_rows(data: bytes) -> bytes:
    """Leave the last rows out of a mask whose head still promises them."""
    mask = Image.open(io.BytesIO(data))
    return change_png(encode(mask.crop((0, 0, mask.width, 40)), "png"), height=mask.height)


MASK = f"{TRUTHS}/val_00001.png"
TRAINED = f"{IMAGES}/train_00001.jpg"
NO_MASK = r"no class mask.*indexed or 8-bit grey"

CASES: list[BadInput] = [
    # What is no whole picture
    photo("jpeg_cut", write("photos/bad.jpg", cut(JPEG))),
    photo("jpeg_cut_for_check", write("photos/bad.jpg", cut(JPEG)), check=True),
    photo("png_cut", write("photos/bad.png", cut(PNG)), "bad.png"),
    photo("webp_cut", write("photos/bad.webp", cut(encode(COLOUR, "webp"))), "bad.webp"),
    photo("bmp_cut", write("photos/bad.bmp", cut(encode(COLOUR, "bmp"))), "bad.bmp"),
    photo("tiff_cut", write("photos/bad.tif", cut(encode(COLOUR, "tiff"))), "bad.tif"),
    photo("no_bytes", empty("photos/bad.jpg")),
    photo("no_bytes_for_check", empty("photos/bad.jpg"), check=True),
    photo("grey_end", write("photos/bad.jpg", cut(JPEG) + b"\xff\xd9")),
    photo("grey_end_for_check", write("photos/bad.jpg", cut(JPEG) + b"\xff\xd9"), check=True),
    photo("zeros_for_an_end", write("photos/bad.jpg", cut(JPEG) + bytes(len(JPEG)))),
    photo("zeros_alone", write("photos/bad.jpg", bytes(5000))),
    photo("head_alone", write("photos/bad.png", PNG[:33]), "bad.png"),
    photo("signature_alone", write("photos/bad.png", PNG[:8] + b"IEND"), "bad.png", check=True),
    photo("wrong_checksum", write("photos/bad.png", PNG[:60] + b"xx" + PNG[62:]), "bad.png"),
    photo("random_bytes", write("photos/bad.jpg", RNG.bytes(3000) + b"\xff\xd9")),
    # Other kinds of files by the name of a picture
    photo("text", write("photos/bad.jpg", b"no picture\n")),
    photo("web_page", write("photos/bad.png", b"<html>404 IEND</html>"), "bad.png"),
    photo("drawing", write("photos/bad.png", b"<svg xmlns='x'/>"), "bad.png", check=True),
    photo("archive", write("photos/bad.jpg", b"PK\x03\x04" + bytes(200)), check=True),
    photo("document", write("photos/bad.tif", b"%PDF-1.7\n"), "bad.tif"),
    photo("heic", write("photos/bad.jpg", b"\0\0\0\x18ftypheic" + bytes(99))),
    photo("array", write("photos/bad.bmp", b"\x93NUMPY" + bytes(200)), "bad.bmp"),
    photo("pointer", write("photos/bad.jpg", b"version https://git-lfs.github.com/spec/v1\n")),
    # Heads that say too much, or nothing
    photo("bomb", write("photos/bad.png", change_png(PNG, width=60000, height=60000)), "bad.png"),
    photo(
        "bomb_for_check",
        write("photos/bad.png", change_png(PNG, width=60000, height=60000)),
        "bad.png",
        check=True,
    ),
    photo("no_width", write("photos/bad.png", change_png(PNG, width=0)), "bad.png"),
    photo("no_height", write("photos/bad.png", change_png(PNG, height=0)), "bad.png", check=True),
    photo("taller_than_its_data", write("photos/bad.png", change_png(PNG, height=500)), "bad.png"),
    photo(
        "taller_than_its_data_for_check",
        write("photos/bad.png", change_png(PNG, height=500)),
        "bad.png",
        check=True,
    ),
    # Pixels without an agreed range
    photo(
        "floats",
        write("photos/bad.tif", encode(COLOUR[..., 0].astype(np.float32), "tiff")),
        "bad.tif",
    ),
    photo(
        "wide",
        write("photos/bad.tif", encode(COLOUR[..., 0].astype(np.int32) * 9999, "tiff")),
        "bad.tif",
    ),
    photo(
        "negative",
        write("photos/bad.tif", encode(COLOUR[..., 0].astype(np.int32) - 500, "tiff")),
        "bad.tif",
        check=True,
    ),
    # What is no file, or has no name
    photo("link_in_a_circle", in_place("photos/bad.jpg", link_to("bad.jpg"))),
    photo("link_to_nothing", in_place("photos/bad.jpg", link_to("gone.jpg"))),
    photo("link_to_a_device", in_place("photos/bad.jpg", link_to("/dev/zero"))),
    photo("pipe", in_place("photos/bad.jpg", make_pipe)),
    photo("pipe_for_check", in_place("photos/bad.jpg", make_pipe), check=True),
    BadInput(
        "line_end_in_a_name",
        "images",
        NETWORK,
        write("photos/bad\nname.jpg", JPEG),
        r"bad\\nname\.jpg",
        "rename",
    ),
    BadInput(
        "two_of_one_name",
        "images",
        NETWORK,
        write("photos/photo_0.png", PNG),
        r"photo_0\.(png|jpg)",
        "rename",
    ),
    BadInput(
        "another_photo_of_that_name",
        "images",
        NETWORK,
        write("photos/photo_1.jpg", JPEG),
        "photo_1",
        "overwrite=true",
    ),
    # Images of a data set with a fixed layout
    image("training_image_cut", write(TRAINED, cut)),
    image("training_image_emptied", empty(TRAINED)),
    image("training_image_gone", remove(TRAINED), "unpack|dataset.root"),
    image("training_image_a_folder", in_place(TRAINED, lambda path: path.mkdir()), "take it away"),
    image(
        "training_image_of_two_kinds",
        write(TRAINED.replace(".jpg", ".png"), PNG),
        "rename",
    ),
    # Masks
    truth("mask_cut", write(MASK, cut), "delete|make"),
    truth("mask_cut_for_check", write(MASK, cut), "delete|make", check=True),
    truth("mask_emptied", empty(MASK), "delete|make"),
    truth("mask_without_its_last_rows", write(MASK, drop_rows), "last row.*(delete|make)"),
    truth("mask_text", write(MASK, b"no mask IEND"), "delete|make"),
    truth("mask_of_another_size", change_mask(MASK, lambda m: m[:-9]), "size.*make the mask"),
    truth(
        "mask_turned",
        change_mask(MASK, lambda m: np.pad(m, ((0, 5), (0, 0))).T),
        "size.*make the mask",
        check=True,
    ),
    truth("mask_in_colour", change_mask(MASK, lambda m: np.dstack([m, m, m])), NO_MASK),
    truth(
        "mask_with_transparency",
        change_mask(MASK, lambda m: np.dstack([m, m, m, m])),
        NO_MASK,
        check=True,
    ),
    truth(
        "mask_of_16_bits",
        change_mask(MASK, lambda m: m.astype(np.uint16) * 256),
        "16 bits a channel",
    ),
    truth("mask_of_1_bit", change_mask(MASK, lambda m: Image.fromarray(m > 0)), "1 bits a channel"),
    truth("mask_jpeg", write(MASK, encode(np.zeros((112, 112), np.uint8), "jpeg")), "JPEG of mode"),
    truth("mask_beyond_classes", change_mask(MASK, lambda m: m + 40), "expected 0 to 8 or 255"),
    truth(
        "mask_beyond_classes_for_check",
        change_mask(MASK, lambda m: np.where(m > 0, 200, 0).astype(np.uint8)),
        "expected 0 to 8 or 255",
        check=True,
    ),
    truth("mask_bomb", write(MASK, lambda d: change_png(d, width=70000, height=70000)), "size"),
    truth("mask_in_a_circle", in_place(MASK, link_to("val_00001.png")), "restore|make|copy|remove"),
    # Masks that score nothing
    BadInput(
        "masks_of_0_and_255",
        "images",
        SCORE,
        each(*(change_mask(f"{TRUTHS}/val_0000{number}.png", ignore) for number in range(3))),
        r"val_00000",
        "255 is ignored.*write 1",
    ),
    BadInput(
        "masks_of_0_and_255_for_check",
        "images",
        CHECK_SHAPES,
        each(*(change_mask(f"{TRUTHS}/val_0000{number}.png", ignore) for number in range(3))),
        r"val",
        "255 is ignored.*write 1",
    ),
    # Videos
    video("video_cut", write_video("clip.avi", cut_off=True), "convert"),
    video("video_text", write("clip.mp4", b"no video"), "convert", "clip.mp4"),
    video("video_emptied", empty("clip.mkv"), "convert", "clip.mkv"),
]

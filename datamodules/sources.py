"""Sources of images that are no folder: a pattern, one image, a list of images, a video."""

from __future__ import annotations

import glob
import os
import shutil
from itertools import takewhile
from pathlib import Path

import cv2

from datamodules.images import name_files
from fmawsss.files.images import SUFFIXES
from fmawsss.files.json_files import read_json, write_json
from fmawsss.files.texts import read_text
from fmawsss.files.writing import name_folder

VIDEO_KINDS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
LIST_KINDS = (".txt",)
MISCOUNT = 0.02  # of the frames, by which heads of whole videos are wrong


def is_video(root: Path) -> bool:
    """Say whether a source is a video."""
    return root.suffix.lower() in VIDEO_KINDS and not root.is_dir()


def index_files(root: Path) -> dict[str, Path]:
    """Map names to the images of a source that is no folder and no video.

    An image has its own name, those of a pattern the path below its fixed part, those of a list the
    path below their common folder.

    Raises:
        FileNotFoundError, and ValueError for a file of another kind and for two images of one name.
    """
    # a file
    kind = root.suffix.lower()
    if root.is_file() and kind in LIST_KINDS:
        return index_list(root)
    if root.is_file() and kind in SUFFIXES:
        return {root.stem: root}
    if root.is_file():
        raise ValueError(
            f"{root} is neither an image, a list nor a video; dataset.root takes a folder or "
            f"{', '.join([*SUFFIXES, *LIST_KINDS, *VIDEO_KINDS])}"
        )

    # a pattern
    if glob.has_magic(str(root)):
        whole = straighten(root)
        fixed = takewhile(lambda part: not glob.has_magic(part), whole.parts)
        found = glob.glob(str(whole), recursive=True)  # noqa: PTH207 (any root)
        return name_files(Path(*fixed), map(Path, found))
    raise FileNotFoundError(
        f"folder {root} does not exist; set dataset.root to a folder of images, or to one image"
    )


def index_list(file: Path) -> dict[str, Path]:
    """Read a list of image files, one per line, relative to the list's own folder or absolute."""
    lines = [line.strip() for line in read_text(file).splitlines()]
    images = [straighten(file.parent / line) for line in dict.fromkeys(lines) if line]
    hidden = [image for image in images if image.name.startswith(".")]
    if hidden:
        raise ValueError(
            f"{file} lists {len(hidden)} hidden images, whose names begin with a dot, first "
            f"{hidden[0]}: rename them, or take them out"
        )
    missing = [image for image in images if not is_image(image)]
    if missing:
        raise ValueError(
            f"{file} lists {len(missing)} files that are no images, first {missing[0]}: correct "
            "the list"
        )
    if not images:
        return {}

    # names are paths below the folder that all share
    try:
        shared = os.path.commonpath([image.parent for image in images])
    except ValueError:
        raise ValueError(f"{file} lists images of several drives: one list each") from None
    return name_files(Path(shared), images)


def straighten(path: Path) -> Path:
    """Return an absolute path without `..`, so that no name below it leads out of a folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (links stay)


def is_image(file: Path) -> bool:
    """Say whether there is a file of an image's kind."""
    return file.suffix.lower() in SUFFIXES and len(file.name) < 256 and file.is_file()


def extract_frames(video: Path, folder: Path, step: int) -> None:
    """Write every `step`-th frame of a video as `<folder>/<its number>.jpg`, once.

    `<folder>.json` says of what video they are, and how fast they follow one another.
    """
    # frames that are there already
    record = folder.with_name(f"{folder.name}.json")
    source = {"video": str(video.resolve()), "bytes": video.stat().st_size, "step": step}
    if folder.is_dir():
        if not record.is_file() or read_json(record)["source"] != source:
            raise ValueError(
                f"{folder} holds frames of another video: delete it, or choose another "
                "dataset.frames"
            )
        return

    # a text is none: a playlist would lead to other files
    with video.open("rb") as file:
        if b"\0" not in file.read(4096):
            raise ValueError(f"{video} is no video: convert it, e.g. to H.264 in an mp4 file")

    # a run that is killed leaves only the partial folder
    capture = cv2.VideoCapture(str(video))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with name_folder(folder.parent):
        kept = write_frames(capture, partial, step)
    if not kept:
        raise ValueError(f"video {video} cannot be read: convert it, e.g. to H.264 in an mp4 file")
    promised, found = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)), (kept - 1) * step + 1
    if found + step + MISCOUNT * promised < promised:
        raise ValueError(
            f"video {video} is cut off: it holds about {found} of {promised} frames; copy it "
            "again, or convert what is there (ffmpeg -i VIDEO NEW.mp4)"
        )
    fps = capture.get(cv2.CAP_PROP_FPS) / step
    write_json(record, {"source": source, "frames": kept, "fps": fps})
    partial.replace(folder)


def write_frames(capture: cv2.VideoCapture, folder: Path, step: int) -> int:
    """Write every `step`-th frame, named by its number from 0; return how many there are."""
    number = kept = 0
    while capture.grab():
        if number % step == 0:
            _, frame = capture.retrieve()
            _, picture = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (folder / f"{number:06d}.jpg").write_bytes(picture.tobytes())
            kept += 1
        number += 1
    return kept


def find_source(root: Path) -> Path:
    """Return the folder that images of a source come from; of a list or a video its own name.

    >>> find_source(Path("/a/photos/*.jpg")).as_posix(), find_source(Path("/a/film.mp4")).as_posix()
    ('/a/photos', '/a/film')
    """
    whole = straighten(root)
    if whole.is_dir():
        return whole
    if is_image(whole):
        return whole.parent
    if glob.has_magic(str(root)):
        return Path(*takewhile(lambda part: not glob.has_magic(part), whole.parts))
    return whole.with_suffix("")

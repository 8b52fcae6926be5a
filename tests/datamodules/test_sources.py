from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from fake_trees import draw_image, write_jpeg

from datamodules.sources import extract_frames, index_files, is_video
from fmawsss.files.json_files import read_json


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a/one.v2", "a/two", "b/one"):
        write_jpeg(tmp_path / f"{name}.jpg", draw_image(0, (8, 8)))
    (tmp_path / "a/notes.md").write_text("no image")
    return tmp_path


def test_an_image_has_its_own_name(photos: Path) -> None:
    assert index_files(photos / "a/one.v2.jpg") == {"one.v2": photos / "a/one.v2.jpg"}


def test_a_pattern_names_images_below_its_fixed_part(photos: Path) -> None:
    assert sorted(index_files(photos / "**/*")) == ["a/one.v2", "a/two", "b/one"]
    assert sorted(index_files(photos / "a/*.jpg")) == ["one.v2", "two"]


def test_a_list_names_images_below_their_common_folder(photos: Path) -> None:
    file = photos / "few.txt"
    file.write_text(f"a/two.jpg\n\n{photos}/b/one.jpg\na/two.jpg\n")
    assert list(index_files(file)) == ["a/two", "b/one"]
    file.write_text("")
    assert index_files(file) == {}
    file.write_text("a/two.jpg\na/notes.md\na/lost.jpg\n")
    with pytest.raises(ValueError, match=r"lists 2 files that are no images, first .*notes\.md"):
        index_files(file)


def test_other_sources_are_explained(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"notes\.md is neither an image, a list nor a video"):
        index_files(photos / "a/notes.md")
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; set dataset\.root"):
        index_files(photos / "nowhere")


def test_every_second_frame_of_a_video_is_written_once(tmp_path: Path) -> None:
    video, folder = tmp_path / "film.avi", tmp_path / "frames/film"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(5):
        writer.write(draw_image(number, (24, 32)))
    writer.release()
    assert is_video(video)

    extract_frames(video, folder, 2)
    assert sorted(file.name for file in folder.iterdir()) == [f"{n:06d}.jpg" for n in (0, 2, 4)]
    record = read_json(folder.with_name("film.json"))
    assert (record["frames"], record["fps"]) == (3, 5.0)

    (folder / "000000.jpg").unlink()
    extract_frames(video, folder, 2)
    assert len(list(folder.iterdir())) == 2
    with pytest.raises(ValueError, match="holds frames of another video"):
        extract_frames(video, folder, 3)


def test_a_broken_video_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0 no video")
    with pytest.raises(ValueError, match=r"film\.mp4 cannot be read: convert it"):
        extract_frames(tmp_path / "film.mp4", tmp_path / "frames/film", 1)
    assert not (tmp_path / "frames/film").exists()

"""Images beside exported masks: a second name of the file, or a copy."""

from __future__ import annotations

from pathlib import Path

from stages.exports.masks import link_image


def test_images_are_copied_where_a_file_system_has_no_links(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    link_image(tmp_path / "a.jpg", tmp_path / "linked.jpg")
    link_image(tmp_path / "a.jpg", tmp_path / "linked.jpg")
    assert (tmp_path / "linked.jpg").samefile(tmp_path / "a.jpg")

    def refuse(*_) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link_image(tmp_path / "a.jpg", tmp_path / "copied.jpg")
    assert (tmp_path / "copied.jpg").read_bytes() == b"photo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "copied.jpg", "linked.jpg"]

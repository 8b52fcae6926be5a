"""The generated world keeps its promises: same seed, same bytes; masks and objects agree."""

import numpy as np
import pytest

from fmawsss.tiny.captions import draw_caption, list_words
from fmawsss.tiny.grounds import BACKGROUNDS
from fmawsss.tiny.shapes import (
    CLASS_NAMES,
    MIN_PIXELS,
    STUFF,
    Scene,
    draw_scene,
    present_classes,
)
from fmawsss.tiny.textures import COLOURS, TEXTURES


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    return [draw_scene(rng) for _ in range(60)]


def test_same_seed_draws_same_bytes() -> None:
    first, second = (draw_scene(np.random.default_rng(11)) for _ in range(2))
    for name in ("image", "semantic", "instance", "part"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.objects, first.background, first.stuff) == (
        second.objects,
        second.background,
        second.stuff,
    )


def test_other_seed_draws_another_image() -> None:
    first, second = (draw_scene(np.random.default_rng(seed)) for seed in (11, 12))
    assert (first.image != second.image).any()


def test_arrays_are_rgb_bytes_and_masks_of_one_size(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (112, 112, 3)
        assert {mask.shape for mask in (scene.semantic, scene.instance, scene.part)} == {(112, 112)}
        assert {a.dtype for a in (scene.image, scene.semantic, scene.instance, scene.part)} == {
            np.dtype(np.uint8)
        }


def test_every_scene_shows_one_to_four_objects_without_slivers(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert 1 <= len(scene.objects) <= 4
        visible = np.bincount(scene.instance.ravel(), minlength=len(scene.objects) + 1)
        assert len(visible) == len(scene.objects) + 1
        assert visible[1:].min() >= MIN_PIXELS


def test_masks_labels_and_objects_agree(scenes: list[Scene]) -> None:
    for scene in scenes:
        for i, thing in enumerate(scene.objects, start=1):
            assert set(scene.semantic[scene.instance == i]) == {thing.class_index + 1}
        assert not scene.semantic[scene.instance == 0].any()
        in_mask = [int(value) - 1 for value in np.unique(scene.semantic) if value]
        assert (
            present_classes(scene)
            == in_mask
            == sorted({thing.class_index for thing in scene.objects})
        )


def test_parts_never_cross_objects(scenes: list[Scene]) -> None:
    for scene in scenes:
        for part in np.unique(scene.part):
            assert len(np.unique(scene.instance[scene.part == part])) == 1


def test_all_classes_and_counts_occur(scenes: list[Scene]) -> None:
    assert {thing.class_index for scene in scenes for thing in scene.objects} == set(
        range(len(CLASS_NAMES))
    )
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}


def test_words_of_a_scene_are_known_names(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.background in BACKGROUNDS
        assert set(scene.stuff) <= set(STUFF)
        assert all(thing.colour in COLOURS for thing in scene.objects)
        assert all(thing.texture in (*TEXTURES, "twotone", "marked") for thing in scene.objects)


def test_typical_material_is_worn_as_often_as_asked() -> None:
    rng = np.random.default_rng(2)
    stars = [
        thing
        for _ in range(150)
        for thing in draw_scene(rng, 1.0).objects
        if CLASS_NAMES[thing.class_index] == "star"
    ]
    assert {thing.colour for thing in stars} == {"yellow"}


def test_captions_hold_listed_words_only(scenes: list[Scene]) -> None:
    rng, words = np.random.default_rng(0), set(list_words())
    for scene in scenes:
        caption = draw_caption(rng, scene)
        assert set(caption.replace(",", " ").replace(".", " ").split()) <= words
    assert set(CLASS_NAMES) <= words

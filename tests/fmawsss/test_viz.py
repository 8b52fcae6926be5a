from __future__ import annotations

import numpy as np
import pytest
import torch
from superpixel_tools import draw_blobs, make_superpixels

from fmawsss.superpixels import Superpixels
from fmawsss.viz import (
    GAP,
    LEVEL_COLOURS,
    UNCOVERED,
    choose_colours,
    colour_heatmap,
    colour_levels,
    colour_mask,
    colour_superpixels,
    draw_legend,
    draw_panel,
    enlarge_image,
    make_palette,
    overlay_heatmap,
    overlay_mask,
    stack_panels,
)


def photo(height=112, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_palette_is_that_of_pascal_voc():
    palette = make_palette(256)
    named = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
    }
    for index, colour in (named | {20: (0, 64, 128), 255: (224, 224, 192)}).items():
        assert tuple(palette[index]) == colour
    assert len(np.unique(palette, axis=0)) == 256
    assert make_palette(21).tolist() == palette[:21].tolist()


def test_palette_of_more_than_a_byte_of_classes_goes_on():
    assert make_palette(512)[256].tolist() == [0, 0, 32]


def test_small_images_are_enlarged_by_a_whole_factor():
    assert enlarge_image(photo(112, 96), 300).shape == (336, 288, 3)
    large = photo(375, 500)
    assert enlarge_image(large, 300) is large


def test_overlay_leaves_the_background_alone():
    image, mask = photo(), np.zeros((112, 96), dtype=np.uint8)
    assert np.array_equal(overlay_mask(image, mask, make_palette(256), 0.5), image)
    mask[20:60, 30:70] = 3
    drawn = overlay_mask(image, mask, make_palette(256), 1.0)
    assert np.array_equal(drawn[:15], image[:15])
    assert (drawn[25:55, 35:65] == (128, 128, 0)).all()
    assert drawn[20, 40].min() > 150  # the outline


def test_a_mask_of_another_size_is_resized_to_the_image():
    mask = np.zeros((4, 4), dtype=np.int64)
    mask[2:, 2:] = 1
    palette = make_palette(256)
    expected = overlay_mask(photo(), mask.repeat(28, axis=0).repeat(24, axis=1), palette, 0.6)
    assert np.array_equal(overlay_mask(photo(), mask, palette, 0.6), expected)


def test_mask_colours_need_a_palette_that_is_long_enough():
    mask = np.array([[0, 255]], dtype=np.uint8)
    assert colour_mask(mask, make_palette(256))[0, 1].tolist() == [224, 224, 192]
    with pytest.raises(ValueError, match=r"Mask holds 255, the palette ends at 20"):
        colour_mask(mask, make_palette(21))


def test_heat_rises_from_blue_to_red():
    heat = colour_heatmap(np.array([[-1.0, 0.0, 0.5, 1.0]], dtype=np.float32))[0]
    assert heat[0].tolist() == heat[1].tolist()
    assert heat[0, 2] > heat[0, 0]
    assert heat[3, 0] > heat[3, 2]
    assert np.array_equal(
        colour_heatmap(np.zeros((2, 2), dtype=np.float32)), np.broadcast_to(heat[0], (2, 2, 3))
    )


def test_heat_overlay_has_the_size_of_the_image():
    drawn = overlay_heatmap(photo(), np.random.default_rng(0).normal(size=(7, 6)), 0.8)
    assert drawn.shape == (112, 96, 3)
    assert drawn.dtype == np.uint8


def test_superpixels_get_colours_of_their_own():
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, :, :30] = masks[1, 10:20, 10:20] = masks[2, :20, 40:50] = True
    superpixels = make_superpixels(masks, torch.tensor([2, 0, 1]))
    drawn = colour_superpixels(superpixels, 60)
    middles = [drawn[30, 10], drawn[15, 15], drawn[10, 45], drawn[30, 45]]
    assert len({tuple(colour) for colour in middles}) == 4
    assert tuple(middles[3]) == UNCOVERED
    levels = colour_levels(superpixels, 60)
    assert np.array_equal(np.stack([levels[15, 15], levels[10, 45], levels[30, 10]]), LEVEL_COLOURS)
    assert colour_levels(superpixels, 150).shape == (120, 180, 3)


def test_superpixels_of_real_shapes_and_of_no_image():
    masks = draw_blobs(torch.Generator().manual_seed(0), 30, (50, 70))
    assert colour_superpixels(make_superpixels(masks, torch.zeros(30)), 50).shape == (50, 70, 3)
    assert (colour_superpixels(Superpixels.empty((5, 6)), 6) == UNCOVERED).all()


def test_panel_lays_out_rows_of_captioned_images():
    row = [
        ("image", photo(112, 96)),
        ("a caption that is far too long for its picture", photo(375, 500)),
    ]
    panel = draw_panel([row, [("", photo(100, 100))]], 120)
    assert panel.shape[1] == GAP + 2 * (120 + GAP)
    assert (panel[-GAP:] == 255).all()
    assert (panel[:GAP] == 255).all()
    bottom = panel[-GAP - 120 : -GAP, GAP : GAP + 120]
    assert (bottom != 255).any(axis=(1, 2)).all()  # no room is left for the empty caption
    assert (
        panel[GAP : GAP + 12, GAP + 120 + 1 : GAP + 120 + GAP] == 255
    ).all()  # no caption leaves its column


def test_legend_breaks_lines():
    names = ["background", *(f"class {index}" for index in range(20))]
    narrow, wide = (draw_legend(names, make_palette(256), width) for width in (200, 3000))
    assert (narrow.shape[1], wide.shape[1]) == (200, 3000)
    assert narrow.shape[0] > 3 * wide.shape[0]
    assert (wide == (128, 0, 0)).all(axis=2).any()


def test_stacked_panels_are_one_panel_of_all_rows():
    images = [np.full((20 + 9 * n, 30, 3), 80 * n, np.uint8) for n in range(3)]
    rows = [[("one", images[0])], [("two", images[1]), ("more", images[2])], [("", images[2])]]
    stacked = stack_panels([draw_panel([row], 40) for row in rows])
    np.testing.assert_array_equal(stacked, draw_panel(rows, 40))


def test_few_classes_get_colours_that_differ_over_photos():
    colours = choose_colours(19)[1:20].astype(int)
    distances = np.abs(colours[:, None] - colours[None]).max(axis=-1)
    assert distances[~np.eye(19, dtype=bool)].min() > 30
    assert distances[:8, :8][~np.eye(8, dtype=bool)].min() > 80
    assert np.abs(choose_colours(8)[1].astype(int) - choose_colours(8)[8]).max() > 150
    for classes in (20, 80):
        assert (choose_colours(classes) == make_palette(256)).all()

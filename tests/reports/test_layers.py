"""Figures of what was learned: what is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from assay.reports.drawing import layer_figures as learned
from assay.reports.drawing.theme import DARK, LIGHT, Look, Plot, themed


def drawn(plot: Plot, look: Look = LIGHT) -> Figure:
    with themed(look):
        figure = plot.draw(look)
        figure.canvas.draw()
    return figure


def tiles(n: int, channels: int = 3, side: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((n, channels, side, side))


def test_every_filter_is_drawn_pixel_by_pixel_at_both_scales() -> None:
    common, each = tiles(5), tiles(5) ** 2
    plot = learned.filters("conv1", common, each, 0.25, [0.5, float("nan"), 1, 0.25, 0.75])
    above, below = drawn(plot).axes
    for axes, given in ((above, common), (below, each)):
        assert len(axes.images) == 5
        for image, tile in zip(axes.images, given, strict=True):
            np.testing.assert_array_equal(np.asarray(image.get_array()), np.moveaxis(tile, 0, -1))
            assert image.get_interpolation() == "nearest"
    assert "weight / 0.5" in above.get_title("left")
    assert [text.get_text() for text in below.texts] == ["0.50", "", "1.00", "0.25", "0.75"]


def test_tiles_do_not_overlap() -> None:
    (axes,) = drawn(learned.layer_weights("conv2", tiles(20, 9, 3))).axes
    boxes = [image.get_extent() for image in axes.images]
    assert len(boxes) == 16 * 9
    for i, (left, right, bottom, top) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[3] or other[2] <= top
    assert "not interpretable" in learned.layer_weights("conv2", tiles(2)).how


def test_maps_go_from_black_to_white_and_constant_ones_stay_black() -> None:
    maps = np.stack([np.arange(9.0).reshape(3, 3), np.full((3, 3), 7.0)])
    _, axes = drawn(learned.activations("layer", np.zeros((6, 6)), maps, [4, 2])).axes
    first, second = (np.asarray(image.get_array()) for image in axes.images)
    np.testing.assert_allclose(first, np.arange(9.0).reshape(3, 3) / 8)
    assert not second.any()
    assert [text.get_text() for text in axes.texts] == ["4: 8", "2: 7"]


@pytest.mark.parametrize("look", [LIGHT, DARK])
def test_patches_stand_in_lines_by_channel(look: Look) -> None:
    rows = [list(np.moveaxis(tiles(3), 1, -1)) for _ in range(2)]
    (axes,) = drawn(learned.patches("layer", rows, [7, 1], np.array([[3.0, 2, 1], [9.0, 8, 7]]), "Note."), look).axes
    assert len(axes.images) == 6
    assert [text.get_text() for text in axes.texts] == ["7\n3", "1\n9"]
    tops = [image.get_extent()[3] for image in axes.images]
    assert tops == sorted(tops)


@pytest.mark.parametrize("look", [LIGHT, DARK])
def test_fields_draw_what_there_is(look: Look) -> None:
    weight = np.zeros((8, 8))
    weight[2:5, 3:6] = 1
    rows = [
        learned.FieldRow("stem", 3, 3, 2.5, weight, (2, 3, 3, 3)),
        learned.FieldRow("blocks.0", float("nan"), 8, 4, weight, None),
    ]
    axes, *small = drawn(learned.fields(rows, 8), look).axes
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float).tolist() for line in axes.lines}
    found = {kind: lines[kind] for kind in ("arithmetic", "measured", "effective")}
    assert found["measured"] == [3, 8]
    assert found["effective"] == [2.5, 4]
    assert found["arithmetic"][0] == 3
    assert np.isnan(found["arithmetic"][1])
    assert [len(each.patches) for each in small] == [1, 0]
    np.testing.assert_array_equal(np.asarray(small[0].images[0].get_array()), weight)

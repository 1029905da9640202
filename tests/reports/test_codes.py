"""Figures of codes and units: artists and arrays, not pixels."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from assay.reports.drawing.code_figures import (
    RIGHT,
    WRONG,
    Near,
    Panel,
    UnitAndPart,
    accuracies,
    cells,
    maps,
    neighbours,
    parts,
    similarity,
    thumbnails,
)
from assay.reports.drawing.theme import DARK, LIGHT, themed

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (30, 6), (31, 6), (200, 17)])
def test_every_point_has_a_cell_of_its_own(n: int, columns: int) -> None:
    places = cells(RANDOM.standard_normal((n, 2)), columns)
    assert len(np.unique(places, axis=0)) == n
    assert places.min() >= 0
    assert places[:, 0].max() < columns
    assert places[:, 1].max() < -(-n // columns)


def test_points_on_a_grid_stay_there_with_y_upwards() -> None:
    columns, lines = np.meshgrid(np.arange(5), np.arange(4))
    points = np.stack([columns.ravel() * 7.0, lines.ravel() * -3.0], 1)
    np.testing.assert_array_equal(cells(points, 5), np.stack([columns.ravel(), lines.ravel()], 1))


def test_points_in_one_place_still_have_cells_of_their_own() -> None:
    assert len(np.unique(cells(np.ones((9, 2)), 3), axis=0)) == 9


@pytest.mark.parametrize("colours", [(), (3,)])
def test_thumbnails_show_every_picture_whole(colours: tuple[int, ...]) -> None:
    points, pictures = RANDOM.standard_normal((11, 2)), RANDOM.random((11, 4, 6, *colours))
    with themed(LIGHT):
        (image,) = thumbnails(points, pictures, columns=4).draw(LIGHT).axes[0].images
    sheet = np.asarray(image.get_array())
    assert sheet.shape == (3 * 4, 4 * 6, 3)
    for (column, line), picture in zip(cells(points, 4), pictures, strict=True):
        shown = sheet[4 * line : 4 * line + 4, 6 * column : 6 * column + 6]
        np.testing.assert_allclose(shown, np.broadcast_to(picture if colours else picture[..., None], shown.shape))


def test_maps_draw_each_class_and_say_how_far_they_separate() -> None:
    points, labels = RANDOM.standard_normal((20, 2)), np.arange(20) % 3
    plot = maps([Panel("one", points, 0.75), Panel("other", -points, float("nan"))], labels, ["a", "b", "c"])
    with themed(DARK):
        figure = plot.draw(DARK)
    assert [ax.get_title("left") for ax in figure.axes] == ["one, 75%", "other"]
    for label, drawn in enumerate(figure.axes[0].collections):
        np.testing.assert_allclose(np.asarray(drawn.get_offsets()), points[labels == label])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_many_classes_have_no_legend() -> None:
    plot = maps([Panel("one", RANDOM.standard_normal((60, 2)), 0.5)], np.arange(60) % 30, [str(i) for i in range(30)])
    with themed(LIGHT):
        assert not plot.draw(LIGHT).legends


def test_neighbours_are_framed_by_whether_they_share_the_label() -> None:
    picture = RANDOM.random((4, 4, 3))
    row = Near(picture, "disc", [[(picture, True), (picture, False)], [(picture, None), (picture, True)]])
    with themed(LIGHT):
        axes = neighbours([row], ["codes", "pixels"]).draw(LIGHT).axes[0]
    frames = [patch.get_edgecolor()[:3] for patch in axes.patches if isinstance(patch, Rectangle)]
    assert frames == [to_rgb(colour) for colour in (RIGHT, WRONG, RIGHT)]
    assert len(axes.images) == 5
    assert [text.get_text() for text in axes.texts] == ["disc", "nearest in codes", "nearest in pixels"]


def test_tables_become_heat_maps_of_their_numbers() -> None:
    table = pd.DataFrame([[1.0, -0.01], [-0.01, 1.0]], index=["a", "b"], columns=["a", "b"])
    with themed(LIGHT):
        alike = similarity(table, 40).draw(LIGHT)
        told = accuracies(pd.DataFrame({"nearest others": [0.5]}, index=["a"])).draw(LIGHT)
    assert [text.get_text() for text in alike.axes[0].texts] == ["1.00", "0.00", "0.00", "1.00"]
    assert [text.get_text() for text in told.axes[0].texts] == ["50"]


def test_pictures_are_dimmed_where_a_unit_is_off() -> None:
    picture, on = np.ones((4, 4)), np.eye(4, dtype=bool)
    unit = UnitAndPart("square: unit 3", [picture], [on], [on])
    with themed(LIGHT):
        axes = parts([unit]).draw(LIGHT).axes[0]
    (image,) = axes.images
    np.testing.assert_array_equal(np.asarray(image.get_array())[..., 0] == 1, on)
    assert [text.get_text() for text in axes.texts] == ["square: unit 3"]

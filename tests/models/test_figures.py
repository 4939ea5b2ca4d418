"""Figures: what is drawn where, checked on the drawn objects and on the pixels of the PNG."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from gated_vae.models.figures.curves import curve_panels
from gated_vae.models.figures.grids import (
    hinton,
    pair_sheet,
    reconstruction_grid,
    sample_grid,
    swap_grid,
    traversal_frames,
    traversal_grid,
)
from gated_vae.models.figures.sheet import FONT, FORMATS, PALETTE, Sheet, gif, png, render

RNG = np.random.default_rng(0)
PARTITIONS = {"pose": slice(0, 2), "expression": slice(2, 5)}


def faces(*shape: int) -> Any:
    """Random images of 64 x 64, big enough not to be enlarged on the sheet."""
    return RNG.integers(0, 256, (*shape, 64, 64), dtype=np.uint8)


def places(figure: Figure, images: Any) -> list[tuple[int, int]]:
    """Where each image stands in the rendered PNG: (row, column) in sheet pixels; fails unless every pixel is found."""
    pixels = cv2.imdecode(np.frombuffer(png(figure), np.uint8), cv2.IMREAD_GRAYSCALE)
    found = []
    for image in images:
        large = image.repeat(2, axis=0).repeat(2, axis=1)  # a PNG has two pixels a side for one of the sheet
        distance = cv2.matchTemplate(pixels, large, cv2.TM_SQDIFF)
        row, column = np.unravel_index(distance.argmin(), distance.shape)
        np.testing.assert_array_equal(pixels[row : row + 128, column : column + 128], large)
        found.append((int(row) // 2, int(column) // 2))
    return found


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    """Words -> (row, column)."""
    return {text.get_text(): text.get_position()[::-1] for text in figure.axes[0].texts}


def test_hinton_areas_are_the_importances() -> None:
    importance = np.array([[0.5, 0.0], [0.125, 1.0], [0.0, 0.25], [0.0, 0.0], [0.0, 0.0]])
    figure = hinton(importance, factor_names=["yaw", "smile"], partitions=PARTITIONS)
    squares = [box for box in figure.axes[0].patches if box.get_alpha() == 1 and box.get_width() == box.get_height()]
    words = texts(figure)
    area = {}
    for square in squares:
        y, x = square.get_y() + square.get_height() / 2, square.get_x() + square.get_width() / 2
        code = next(i for i in range(5) if words[f"z{i}"][1] == pytest.approx(x))
        factor = next(k for k, name in enumerate(("yaw", "smile")) if words[name][0] == pytest.approx(y))
        area[code, factor] = square.get_width() * square.get_height()
        assert to_hex(square.get_facecolor()).upper() == PALETTE[int(code >= 2)]
    assert {cell: value / area[1, 1] for cell, value in area.items()} == pytest.approx(
        {(0, 0): 0.5, (1, 0): 0.125, (1, 1): 1.0, (2, 1): 0.25}
    )
    assert words["z1"][1] < words["expression"][1] < words["z4"][1]


def test_hinton_of_nothing_is_an_empty_table() -> None:
    figure = hinton(np.zeros((5, 2)), factor_names=["yaw", "smile"], partitions={})
    assert not figure.axes[0].patches
    assert len(png(figure)) > 1000


def test_names_are_no_formulas_and_control_nothing() -> None:
    figure = hinton(np.eye(2), factor_names=["$\\frac$", "a\x1b[2J\n"], partitions={})
    png(figure)  # warnings are errors
    drawn = [text._preprocess_math(text.get_text()) for text in figure.axes[0].texts]
    assert [words for words, _ in drawn[:2]] == ["$\\frac$", "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"]
    assert not any(formula for _, formula in drawn)


def test_hinton_makes_room_for_names() -> None:
    names = {"a very long name": slice(0, 1), "another long name": slice(1, 2)}
    figure = hinton(np.eye(2), factor_names=["x", "y"], partitions=names)
    renderer = FigureCanvasAgg(figure).get_renderer()
    left, right = (text.get_window_extent(renderer) for text in figure.axes[0].texts if "long" in text.get_text())
    assert left.x1 < right.x0
    assert left.x0 >= 0
    assert right.x1 <= figure.bbox.x1


def test_samples_keep_every_pixel_and_their_order() -> None:
    images = faces(5)
    found = places(sample_grid(images, columns=3), images)
    assert found == sorted(found)
    assert len({row for row, _ in found}) == 2
    assert len({column for _, column in found}) == 3


def test_small_images_are_enlarged_by_a_whole_number() -> None:
    image = RNG.integers(0, 256, (1, 32, 32), dtype=np.uint8)
    places(sample_grid(image), image.repeat(3, axis=1).repeat(3, axis=2)[:, :64, :64])


def test_floating_point_is_taken_as_zero_to_one() -> None:
    images = faces(2)
    places(sample_grid(images.astype(np.float32) / 255), images)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        sample_grid(images.astype(np.float32))


def test_reconstructions_stand_beside_their_labels() -> None:
    rows = {"input": faces(3), "target": faces(3), "output": faces(3)}
    figure = reconstruction_grid(rows)
    for label, images in rows.items():
        found = places(figure, images)
        assert {row for row, _ in found} == {found[0][0]}
        assert texts(figure)[label][0] == pytest.approx(found[0][0] + 32, abs=3)
    with pytest.raises(ValueError, match="same shape"):
        reconstruction_grid({"input": faces(3), "target": faces(2)})


def test_traversals_are_sorted_by_activity_within_their_partition() -> None:
    images = faces(5, 3)
    figure = traversal_grid(
        images, partitions=PARTITIONS, values=[-2, 0, 2], activity=[0.5, 1.5, 0.001, 0.7, 2.0], dead_below=0.01
    )
    alive = {i: places(figure, images[i]) for i in (0, 1, 3, 4)}
    words = texts(figure)
    assert [words[label][0] for label in ("z1  1.50", "z0  0.50", "z4  2.00", "z3  0.70", "z2  dead")] == sorted(
        place[0] for label, place in words.items() if label.startswith("z")
    )
    for i, label in ((0, "z0  0.50"), (1, "z1  1.50"), (3, "z3  0.70"), (4, "z4  2.00")):
        assert words[label][0] == pytest.approx(alive[i][0][0] + 32, abs=3)
        columns = [column for _, column in alive[i]]
        assert columns == pytest.approx([words[value][1] - 32 for value in ("−2", "0", "+2")], abs=3)
    faded = 255 - (255 - images[2]) // 4
    assert places(figure, faded)[0][0] > alive[3][0][0]


def test_swaps_stand_between_their_sources() -> None:
    images, poses, expressions = faces(2, 3), faces(2), faces(3)
    figure = swap_grid(images, poses, expressions)
    rows, columns = places(figure, poses), places(figure, expressions)
    for r in range(2):
        assert places(figure, images[r]) == [(rows[r][0], columns[c][1]) for c in range(3)]
    assert texts(figure)["expression"][0] < columns[0][0]


def test_pairs_stand_in_the_row_of_their_image() -> None:
    images, partners = faces(3), {"same pose": faces(3, 2), "same expression": faces(3, 4)}
    figure = pair_sheet(images, partners)
    inputs = places(figure, images)
    for name, pictures in partners.items():
        for i in range(3):
            found = places(figure, pictures[i])
            assert {row for row, _ in found} == {inputs[i][0]}
            assert found[0][1] < texts(figure)[name][1] < found[-1][1] + 64


def test_the_same_picture_is_the_same_bytes() -> None:
    images = faces(4)
    assert png(sample_grid(images)) == png(sample_grid(images))


def test_no_panel_is_refused() -> None:
    with pytest.raises(ValueError, match="no panel"):
        curve_panels([])


MAGIC = {"png": b"\x89PNG", "jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff", "pdf": b"%PDF-", "svg": b"<?xml"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_figure_is_written_in_the_form_asked_for_and_the_same_every_time(form: str) -> None:
    written = [render(sample_grid(np.full((3, 64, 64), 99, np.uint8)), form) for _ in range(2)]
    assert written[0].startswith(MAGIC[form])
    assert written[0] == written[1]


def test_a_gif_shows_every_dimension_at_every_value_there_and_back() -> None:
    """Dimension i at step s is as bright as 8 (5 i + s); the busiest of each partition stands first."""
    brightness = 8 * (5 * np.arange(5)[:, None] + np.arange(5))
    images = np.broadcast_to(brightness[:, :, None, None], (5, 5, 64, 64)).astype(np.uint8)
    activity = [0.1, 2.0, 3.0, 1.0, 2.0]
    frames = traversal_frames(images, partitions=PARTITIONS, activity=activity)
    film = Image.open(BytesIO(gif(frames)))
    assert film.n_frames == len(frames) == 8
    for place, step in enumerate([0, 1, 2, 3, 4, 3, 2, 1]):
        film.seek(place)
        pixels = np.asarray(film.convert("L"))
        shown = {value for value in np.unique(pixels) if (pixels == value).sum() >= 64 * 64}
        assert shown - {255} == set(brightness[:, step])
        order = [int(np.argwhere(pixels == brightness[i, step]).mean(0)[1]) for i in (1, 0, 2, 4, 3)]
        assert order[0] < order[1]
        assert order[2] < order[3] < order[4]


def test_a_name_over_a_narrow_band_is_no_wider() -> None:
    sheet = Sheet(300, 60)
    sheet.band_above(100, 50, 64, "same background", "#0072B2")
    sheet.band_above(200, 50, 64, "pose", "#0072B2")
    long, short = sheet.figure.axes[0].texts
    assert long.get_window_extent(FigureCanvasAgg(sheet.figure).get_renderer()).width <= 66
    assert short.get_fontsize() == FONT

"""Where pixels come from: known pads, squashes, crops and tiles are seen; what is none of these is refused."""

from functools import partial

import numpy as np
import pytest
import transformers as hf
from PIL import Image

from taxogen.models.encoders.encoder import square_pixels, squashed_pixels
from taxogen.models.encoders.origins import Tile, tiles

GREY = {"mean": (127.0,) * 3, "std": (128.0,) * 3}
WHOLE = (0, 0, 1, 1)


def processed(processor, picture):
    return np.asarray(processor(images=[picture], return_tensors="np")["pixel_values"][0])


def cropped(picture, box, side=20):
    return np.asarray(picture.crop(box).resize((side, side)), float).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("size", [(200, 100), (60, 180), (96, 96), (500, 333)])
@pytest.mark.parametrize("side", [224, 50])
def test_squares_have_margins_and_squashed_pictures_have_none(size, side):
    (square,) = tiles(partial(square_pixels, side=side, **GREY), size)
    (squashed,) = tiles(partial(squashed_pixels, side=side, **GREY), size)
    more = [(max(size) / one - 1) / 2 for one in size]
    expected = (-more[0], -more[1], 1 + more[0], 1 + more[1])
    np.testing.assert_allclose((square.left, square.top, square.right, square.bottom), expected, atol=0.02)
    np.testing.assert_allclose(
        (squashed.left, squashed.top, squashed.right, squashed.bottom), WHOLE, atol=0.01
    )


@pytest.mark.parametrize("box", [(10, 20, 50, 60), (0, 0, 80, 60), (30, 5, 80, 45)])
def test_a_known_crop_is_seen(box):
    (tile,) = tiles(lambda picture: cropped(picture, box), (80, 60))
    expected = np.array(box) / (80, 60, 80, 60)
    np.testing.assert_allclose((tile.left, tile.top, tile.right, tile.bottom), expected, atol=0.01)


def test_the_middle_that_clip_cuts_out_is_seen():
    clip = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24})
    (tile,) = tiles(partial(processed, clip), (200, 100))
    expected = (20 / 64, 4 / 32, 44 / 64, 28 / 32)
    np.testing.assert_allclose((tile.left, tile.top, tile.right, tile.bottom), expected, atol=0.01)


def test_every_tile_of_a_processor_has_its_part_and_the_last_is_the_whole_picture():
    idefics = hf.Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 24})
    found = tiles(partial(processed, idefics), (200, 100))
    boxes = [(one.left, one.top, one.right, one.bottom) for one in found]
    np.testing.assert_allclose(boxes, [(0, 0, 0.5, 1), (0.5, 0, 1, 1), WHOLE], atol=0.01)


def test_cells_share_a_tile_evenly_row_by_row():
    cells = Tile(-0.5, 0, 1.5, 1).cells(2, 2)
    np.testing.assert_allclose(
        cells, [(-0.5, 0, 0.5, 0.5), (0.5, 0, 1.5, 0.5), (-0.5, 0.5, 0.5, 1), (0.5, 0.5, 1.5, 1)]
    )


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda picture: cropped(picture, (0, 0, 80, 60))[:, :, ::-1], "otherwise than by resizing"),
        (lambda picture: np.roll(cropped(picture, (0, 0, 80, 60)), 7, axis=2), "otherwise than by resizing"),
        (lambda picture: np.zeros((12, 588)), r"values of shape \(12, 588\), not into tiles"),
    ],
)
def test_what_is_no_resizing_cropping_padding_or_tiling_is_refused(prepare, said):
    with pytest.raises(ValueError, match=said):
        tiles(prepare, (80, 60))


def test_a_picture_that_is_nowhere_in_a_tile_is_refused():
    def half(picture: Image.Image) -> np.ndarray:
        pixels = cropped(picture, (0, 0, 80, 60))
        return np.stack([pixels, np.zeros_like(pixels)])

    with pytest.raises(ValueError, match="a tile shows nothing of the picture"):
        tiles(half, (80, 60))

"""Opacity of picture files: the alpha of every mode that has one, upright; none where all is opaque."""

import io

import numpy as np
import pytest
from PIL import Image

from taxogen.world.picture_files import opacity

ALPHA = np.array([[0, 255, 128], [255, 0, 255]], np.uint8)


def written(image, kind="PNG", **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def with_alpha(alpha):
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 90, np.uint8), alpha]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_read_as_shares(kind):
    np.testing.assert_array_equal(
        opacity(written(with_alpha(ALPHA), kind, **({"lossless": True} if kind == "WEBP" else {}))),
        ALPHA / 255,
    )


def test_a_transparent_colour_of_a_palette_and_grey_with_alpha_count_too():
    palette = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "L").convert("P")
    np.testing.assert_array_equal(opacity(written(palette, transparency=0)), [[0, 1], [1, 1]])
    grey = Image.fromarray(np.dstack([ALPHA, ALPHA]), "LA")
    np.testing.assert_array_equal(opacity(written(grey)), ALPHA / 255)


def test_a_turned_picture_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = opacity(written(with_alpha(ALPHA), exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(ALPHA, -1) / 255)


@pytest.mark.parametrize(
    "image", [with_alpha(np.full((2, 2), 255, np.uint8)), Image.new("RGB", (2, 2)), Image.new("L", (2, 2))]
)
def test_what_is_opaque_everywhere_has_none(image):
    assert opacity(written(image)) is None


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="it is none of JPEG, PNG, WEBP"):
        opacity(b"no picture")

"""Whatever a user hands over becomes images of the run's form, or is refused."""

import io
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from photos import save
from PIL import Image

from ssl_jax.data import given_images
from ssl_jax.data.sources import one_image
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError

RGB, GREY = (6, 8, 3), (6, 8, 1)


def brought(images, shape=RGB, reading=one_image.DEFAULT):
    return np.concatenate(list(given_images.blocks(images, shape, reading)))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def photo(path, size=(60, 40), **options):
    """A smooth JPEG, wide enough to be read at a part of its size."""
    small = Image.fromarray(noise(4, 5, 3))
    small.resize(size, Image.Resampling.BICUBIC).save(path, quality=95, **options)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(given_images, "_BLOCK", 2)


@pytest.mark.parametrize("shape", [RGB, GREY])
def test_a_file_its_path_and_what_pillow_opens_of_it_are_the_same(tmp_path, shape):
    turned = Image.Exif()
    turned[0x0112] = 6  # stored on its side
    photo(tmp_path / "a.jpg", exif=turned)
    save(tmp_path / "b.png", size=(9, 20), mode="RGBA")
    names = [str(tmp_path / name) for name in ("a.jpg", "b.png")]
    expected = np.stack([one_image.decode(name, shape).image_HWC for name in names])
    opened = [Image.open(name) for name in names]
    ways = (names, [*map(Path, names)], np.array(names), opened, [names[0], opened[1]])
    for images in ways:
        np.testing.assert_array_equal(brought(images, shape), expected)
    assert opened[0].size == (60, 40) and opened[0].tile  # neither drafted nor loaded
    one = brought(names[0], shape)
    np.testing.assert_array_equal(one, expected[:1])
    np.testing.assert_array_equal(brought(opened[0], shape), one)
    opened[0].close()
    memory = Image.open(io.BytesIO(Path(names[0]).read_bytes()))
    np.testing.assert_array_equal(brought(memory, shape), one)


def test_an_image_that_was_changed_in_memory_is_taken_as_it_is(tmp_path):
    photo(tmp_path / "a.jpg")
    image = Image.open(tmp_path / "a.jpg")
    image.paste((255, 0, 0), (0, 0, *image.size))
    assert (brought(image) == np.uint8([255, 0, 0])).all()


def test_arrays_of_the_runs_form_stay_as_they_are():
    images_BHWC = noise(5, *RGB)
    for images in (images_BHWC, list(images_BHWC), jnp.asarray(images_BHWC)):
        np.testing.assert_array_equal(brought(images), images_BHWC)
    np.testing.assert_array_equal(brought(images_BHWC[0]), images_BHWC[:1])
    grey_HW = noise(*GREY[:2])
    for image in (grey_HW, grey_HW[..., None]):
        np.testing.assert_array_equal(brought(image, GREY)[0, ..., 0], grey_HW)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_between_0_and_1_are_grey_levels(dtype):
    images_BHWC = noise(3, *RGB)
    np.testing.assert_array_equal(
        brought((images_BHWC / 255).astype(dtype)), images_BHWC
    )


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("shape", [RGB, GREY])
def test_arrays_of_another_form_are_brought_to_it_as_a_file_is(
    tmp_path, channels, shape
):
    image = noise(20, 11, *channels)
    squeezed = image[..., 0] if channels == (1,) else image
    Image.fromarray(squeezed).save(tmp_path / "a.png")
    expected = one_image.decode(str(tmp_path / "a.png"), shape).image_HWC
    np.testing.assert_array_equal(brought(image, shape)[0], expected)
    if channels:
        batch = np.stack([image] * 3)
        np.testing.assert_array_equal(brought(batch, shape), np.stack([expected] * 3))


def test_files_are_read_as_the_runs_own_were(tmp_path, caplog):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((6, 8), 4_095, np.uint16)).save(path)
    assert brought(path, GREY, Reading(white=4_095)).min() == 255
    assert "data.white" not in caplog.text
    assert brought(path, GREY).max() < 20
    assert "config.data.white=4095" in caplog.text


FLOATS = np.linspace(-1, 1, 144).reshape(6, 8, 3)
REFUSED = [
    ([], "there are no images"),
    (noise(0, *RGB), "there are no images"),
    (None, "the image cannot be taken: NoneType is no image: give the name of a file"),
    ([noise(*RGB), 3], r"^images\[1\] cannot be taken: int is no image"),
    ([[[0, 1], [2, 3]]], "list is no image"),
    (
        FLOATS,
        r"an array of float64 from -1 to 1: floats must be in \[0, 1\]; give uint",
    ),
    (np.float32(200) * np.abs(FLOATS), "from 1.399 to 200: floats must"),
    (np.stack([FLOATS, FLOATS * np.nan]), "from nan to nan"),
    (np.float32(noise(2, *RGB) > 99), "all 0 or 1: is 1 white, or the darkest grey"),
    (noise(*RGB) > 9, "an array of bool: give uint8, grey levels 0 to 255, or floats"),
    (noise(2, *RGB).astype(int), "an array of int64: give uint8"),
    (np.uint16(noise(6, 8)), "an array of uint16: give uint8"),
    (noise(3, 32, 32), r"shape \(3, 32, 32\): images are .* go last by np.moveaxis"),
    (noise(5, 3, 32, 32), r"shape \(5, 3, 32, 32\): images are .*channels.*moveaxis"),
    (noise(7, 28, 28), r"shape \(7, 28, 28\): images are .* 1, 3 or 4 channels\.$"),
    (noise(784), r"shape \(784,\): images are"),
    (noise(0, 8, 3), r"shape \(0, 8, 3\): images are"),
    (
        noise(10, 144),
        r"shape \(10, 144\): is it one image.*reshape\(-1, \*\(6, 8, 3\)\)",
    ),
    (Image.new("F", (8, 6)), "floating-point pixels have no stated range"),
    ("no/such.png", "'no/such.png' cannot be taken: No such file or directory"),
    (
        ["/", "no.png"],
        r"(?s)^images\[0\] '/' .*not a regular file.*images\[1\] 'no.png'",
    ),
]


@pytest.mark.parametrize("images, said", REFUSED)
def test_what_is_no_image_or_could_be_meant_otherwise_is_refused(images, said):
    with pytest.raises(UserError, match=said):
        brought(images)


def test_a_mask_and_a_black_image_are_told_apart():
    assert brought(np.zeros(RGB)).max() == 0  # black either way
    with pytest.raises(UserError, match="is 1 white"):
        brought(np.ones(RGB))

"""What of a file its pixels do not show: bits, frames, and how many they are."""

import numpy as np
import pytest
from photos import fill, load, save
from PIL import Image

from ssl_jax.data.sources import image_files, one_image
from ssl_jax.data.sources.one_image import Reading


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))


def of_12_bits(path, brightest=4_011):
    values_HW = np.random.default_rng(0).integers(0, brightest, (8, 8), np.uint16)
    values_HW[0, 0] = brightest
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values_HW).save(path)
    return values_HW.astype(int)


def test_12_bits_in_16_are_warned_of_and_white_makes_them_visible(tmp_path, caplog):
    root = tmp_path / "photos"
    values_HW = of_12_bits(root / "cat/1.png")
    of_12_bits(root / "dog/2.tif", 3_000)
    dark = load(root)
    assert dark.images_NHWC.max() == round(4_011 * 255 / 65_535)
    for _ in range(2):  # from the cache as well
        assert "brightest value of 2 images of 16 bits is 4011, as if they held 12" in (
            caplog.text
        )
        assert "set config.data.white=4095." in caplog.text
        caplog.clear()
        load(root)
    caplog.clear()
    light = load(root, white=4_095)
    assert not caplog.text
    expected_HW = np.round(values_HW * 255 / 4_095)
    np.testing.assert_array_equal(light.images_NHWC[0, :, :, 0], expected_HW)
    # What is above white is white, and said.
    caplog.clear()
    clipped = load(root, white=3_500)
    assert clipped.images_NHWC[0, 0, 0, 0] == 255
    assert "1 of 2 images of more than 8 bits have values above" in caplog.text
    assert "config.data.white=3500, which become white; the brightest is 4011" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("brightest", "white"),
    [([65_535], None), ([16_384], None), ([4_095, 0], 4_095), ([4_096], 16_383)]
    + [([255], 255), ([1_000, 300], 1_023), ([0, 0], None), ([], None)],
)
def test_what_the_brightest_value_tells_of_the_bits(brightest, white, caplog):
    image_files.report_pixels(0, brightest, 0)
    assert (f"set config.data.white={white}." in caplog.text) == (white is not None)
    assert bool(caplog.text) == (white is not None)


def test_white_is_for_files_of_more_than_8_bits(tmp_path):
    written = save(tmp_path / "a.png", mode="L")
    found = one_image.decode(str(tmp_path / "a.png"), (8, 8, 1), Reading(white=100))
    np.testing.assert_array_equal(found.image_HWC[:, :, 0], written)
    assert found.brightest == 0
    wide = Image.fromarray(np.full((8, 8), 100_000, np.int32))
    wide.save(tmp_path / "wide.tif")
    with pytest.raises(ValueError, match="100000 are not of 16 bits: .*data.white"):
        one_image.decode(str(tmp_path / "wide.tif"), (8, 8, 1))
    found = one_image.decode(str(tmp_path / "wide.tif"), (8, 8, 1), Reading(200_000))
    assert (found.image_HWC == 128).all()


def test_files_of_several_frames_are_counted(tmp_path, caplog):
    root = tmp_path / "photos"
    fill(root, "cat/1.png", "dog/2.png")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    for i, suffix in enumerate(("gif", "tif", "png", "webp")):
        more = dict(save_all=True, append_images=frames[1:])
        more |= dict(lossless=True) if suffix == "webp" else {}
        frames[0].save(root / f"cat/film{i}.{suffix}", **more)
    frames[0].save(root / "cat/still.gif")
    # A phone's photograph with a depth map behind it is one photograph.
    frames[0].save(root / "cat/z.jpg", "MPO", save_all=True, append_images=frames[1:])
    for _ in range(2):  # the second from the cache
        caplog.clear()
        data = load(root)
        said = "4 files have several frames or pages: the first of each is used"
        assert said in caplog.text
        films = data.images_NHWC[1:5].astype(int)
        assert np.abs(films - [255, 0, 0]).max() <= 1


def test_the_number_of_pixels_is_a_field(tmp_path, caplog):
    root = tmp_path / "photos"
    fill(root, "cat/1.png", "dog/2.png")
    save(root / "cat/large.png", size=(30, 40))
    reason = "of more than 1,000 pixels, which may be an attack: if it is none, set"
    for limit, refused in ((1_200, False), (1_000, True), (100, True), (0, False)):
        caplog.clear()
        data = load(root, image_size=8, max_pixels=limit)
        assert (data.unreadable == {"cat/large.png"}) == refused
        assert (reason in caplog.text) == (limit == 1_000)
    assert Image.MAX_IMAGE_PIXELS == Reading().max_pixels

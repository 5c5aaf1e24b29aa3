"""Copies are found for what they are, and by no more comparisons than are kept."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ssl_jax.analyze import copies, pixels


def of(*images_HWC):
    return np.asarray(copies.signatures(np.stack(images_HWC)))


def cosine(a_HWC, b_HWC):
    """Each brought to the size of a run before, as they come in many."""
    small = (Image.fromarray(x).resize((64, 64), Image.BICUBIC) for x in (a_HWC, b_HWC))
    a_D, b_D = of(*map(np.asarray, small))
    return a_D @ b_D


@pytest.fixture(scope="module")
def photo():
    return load_sample_image("china.jpg")


def test_near_is_the_same_photograph_however_it_was_saved(photo):
    image = Image.fromarray(photo)
    smaller = image.resize((160, 107), Image.BILINEAR)
    pale = image.point(lambda value: 60 + value // 2)
    grey = image.convert("L").convert("RGB")
    cut = image.crop((6, 4, 634, 423))  # 1% off each side
    for like in (smaller, pale, grey, cut):
        assert cosine(photo, np.asarray(like)) > copies.LEVELS[0]
    flower = load_sample_image("flower.jpg")
    mirrored, turned = photo[:, ::-1], photo[::-1, ::-1]
    for other in (flower, mirrored, turned):
        assert cosine(photo, np.ascontiguousarray(other)) < 0.7


def test_a_flat_image_is_near_none():
    black, grey = (np.full((8, 8, 3), value, np.uint8) for value in (0, 120))
    noisy = grey + np.random.default_rng(0).integers(0, 2, grey.shape, np.uint8)
    assert not of(black, grey, noisy).any()


def test_all_pairs_are_found_across_tiles(monkeypatch):
    """The slow way: the whole matrix."""
    monkeypatch.setattr(copies, "_TILE", 16)
    rng = np.random.default_rng(0)
    rows_ND = rng.normal(size=(50, 8)).astype(np.float32)
    rows_ND[[3, 17, 49]] = rows_ND[0] + 0.05 * rng.normal(size=(3, 8))
    rows_ND[40] = rows_ND[41]
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    found = copies.near(rows_ND)
    assert found.level == copies.LEVELS[0] and found.images_at_least == 6
    first, second = np.nonzero(np.triu(rows_ND @ rows_ND.T >= copies.LEVELS[0], k=1))
    pairs = set(zip(found.pairs.first_P, found.pairs.second_P, strict=True))
    assert pairs == set(zip(first, second, strict=True)) and len(pairs) == 7
    assert not len(copies.near(rows_ND[:0]).pairs.first_P)


def test_the_level_rises_where_images_are_alike_by_nature():
    """And the surest pairs of each stay, however many there are."""
    rng = np.random.default_rng(0)
    alike_ND = 1 + 0.1 * rng.normal(size=(200, 16))
    alike_ND[7] = alike_ND[150] + 1e-4
    alike_ND = (alike_ND / np.linalg.norm(alike_ND, axis=1, keepdims=True)).astype("f4")
    found = copies.near(alike_ND)
    assert found.level > copies.LEVELS[0] and found.images_at_least == 200
    pairs = set(zip(found.pairs.first_P, found.pairs.second_P, strict=True))
    assert (7, 150) in pairs and len(pairs) < 200


def test_the_same_pixels_are_one_group_each():
    digests = np.array([5, 3, 5, 9, 3, 5], np.uint64)
    groups = copies.same(digests)
    assert [group.tolist() for group in groups] == [[1, 4], [0, 2, 5]]


def test_a_look_at_every_image(monkeypatch):
    monkeypatch.setattr(pixels, "_BLOCK", 4)  # the last one is not full
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (10, 6, 5, 3), np.uint8)
    images_NHWC[2], images_NHWC[9] = images_NHWC[2, :, :, :1], 7
    images_NHWC[5] = images_NHWC[1]
    looked = pixels.look(images_NHWC, "them")
    assert [len(part) for part in looked] == [10] * 6
    assert np.flatnonzero(looked.grey_N).tolist() == [2, 9]
    assert np.flatnonzero(looked.flat_N).tolist() == [9]
    assert [g.tolist() for g in copies.same(looked.digest_N)] == [[1, 5]]
    mean, std = pixels.channels(looked, np.arange(10))
    np.testing.assert_allclose(mean, images_NHWC.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(std, images_NHWC.std((0, 1, 2)), atol=1e-3)
    whole = copies.signatures(images_NHWC)
    np.testing.assert_allclose(looked.signature_ND, whole, atol=1e-5)

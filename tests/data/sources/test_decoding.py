"""What is decoded again, and what an earlier entry of the cache gives."""

import os

import numpy as np
import pytest
from photos import fill, load, save

from ssl_jax.data.sources import one_image
from ssl_jax.errors import UserError
from toy import spied


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    fill(
        root, "cat/1.png", "cat/2.png", "dog/3.png", "unlabeled/4.png", "test/cat/5.png"
    )
    return root


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded since it was asked last."""
    names, decode = [], one_image.decode

    def spy(path, **how):
        names.append(os.path.basename(path))
        return decode(path, **how)

    monkeypatch.setattr(one_image, "decode", spy)

    def since():
        found = sorted(names)
        names.clear()
        return found

    return since


def test_only_what_changed_is_decoded_again(root, decoded):
    first = load(root)
    assert decoded() == ["1.png", "2.png", "3.png", "4.png", "5.png"]
    load(root)
    assert decoded() == []
    new = save(root / "dog/6.png", 6)
    changed = save(root / "cat/2.png", 7)
    (root / "unlabeled/4.png").unlink()
    data = load(root)
    assert decoded() == ["2.png", "6.png"]
    assert data.names_N == ("cat/1.png", "cat/2.png", "dog/3.png", "dog/6.png")
    for i, image_HWC in ((0, first.images_NHWC[0]), (1, changed), (3, new)):
        np.testing.assert_array_equal(data.images_NHWC[i], image_HWC)
    np.testing.assert_array_equal(data.images_NHWC[2], first.images_NHWC[2])
    np.testing.assert_array_equal(data.test_images_MHWC, first.test_images_MHWC)
    # One moved to another class is another path; one added beside it is decoded alone.
    save(root / "unlabeled/8.png", 8)
    assert load(root).sizes == (8, 8)
    assert decoded() == ["8.png"]


def test_the_same_size_and_date_are_no_proof(root, decoded):
    path = root / "cat/1.png"
    os.utime(path, ns=(1, 1))
    load(root)
    size = path.stat().st_size
    changed = save(path, 77)
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    os.utime(path, ns=(1, 1))  # as an archive without dates leaves it
    np.testing.assert_array_equal(load(root).images_NHWC[0], changed)


def test_two_folders_of_like_files_are_two(tmp_path, decoded):
    for name, seed in (("a", 1), ("b", 2)):
        for file in ("cat/1.bmp", "dog/2.bmp"):
            save(tmp_path / name / file, seed)
            os.utime(tmp_path / name / file, ns=(1, 1))
    images = [load(tmp_path / name).images_NHWC[0] for name in ("a", "b")]
    assert (images[0] != images[1]).any()


def test_rows_are_taken_over_as_grey_becomes_color_and_back(tmp_path, decoded):
    root = tmp_path / "photos"
    written = save(root / "cat/1.png", 1, mode="L")
    save(root / "dog/2.png", 2, mode="LA")
    grey = load(root)
    decoded()
    color = save(root / "cat/3.png", 3)
    data = load(root)
    assert decoded() == ["3.png"]
    np.testing.assert_array_equal(data.images_NHWC[0], np.stack([written] * 3, -1))
    np.testing.assert_array_equal(data.images_NHWC[1], color)
    (root / "cat/3.png").rename(tmp_path / "3.png")
    save(root / "cat/4.png", 4, mode="L")
    data = load(root)
    assert decoded() == ["4.png"]
    for new, old in ((0, 0), (2, 1)):
        np.testing.assert_array_equal(data.images_NHWC[new], grey.images_NHWC[old])


def test_other_sizes_and_white_are_decoded_anew(root, decoded):
    load(root, image_size=6)
    assert len(decoded()) == 5
    load(root, image_size=5)
    assert len(decoded()) == 5
    load(root, image_size=5, white=4_095)
    assert len(decoded()) == 5


def test_what_the_system_could_not_read_is_tried_again(root, monkeypatch, caplog):
    """Of a decoding, on a network drive say; and of an opening."""
    decode, header = one_image.decode, one_image.header

    def failing(read):
        def fails(path, *args, **how):
            if path.endswith("2.png"):
                raise OSError(5, "Input/output error")
            return read(path, *args, **how)

        return fails

    for name, read in (("decode", decode), ("header", header)):
        monkeypatch.setattr(one_image, name, failing(read))
        for _ in range(2):
            data = load(root)
            assert data.names_N == ("cat/1.png", "dog/3.png", "unlabeled/4.png")
            assert data.unreadable == {"cat/2.png"}
            assert "cat/2.png: Input/output error" in caplog.text
            caplog.clear()
        with pytest.raises(UserError, match="strict=True.*(?s:.*)2.png: Input/output"):
            load(root, strict=True)
        monkeypatch.setattr(one_image, name, read)
        data = load(root)
        assert data.names_N[1] == "cat/2.png" and not data.unreadable
        save(root / "cat/2.png", 9)  # for the next: nothing is known of it


def test_damage_is_remembered_until_the_file_changes(root, decoded):
    whole = (root / "cat/2.png").read_bytes()
    (root / "cat/2.png").write_bytes(whole[:150])  # its header can be read
    assert load(root, image_size=8).unreadable == {"cat/2.png"}
    assert "2.png" in decoded()
    assert load(root, image_size=8).unreadable == {"cat/2.png"}
    save(root / "cat/0.png")
    assert load(root, image_size=8).unreadable == {"cat/2.png"}
    assert decoded() == ["0.png"]
    (root / "cat/2.png").write_bytes(whole)
    assert not load(root, image_size=8).unreadable and decoded() == ["2.png"]


def test_sizes_are_those_of_the_files(root, monkeypatch):
    save(root / "cat/6.png", size=(40, 12))
    save(root / "test/cat/7.png", size=(9, 64))
    data = load(root, image_size=10)
    assert data.sizes == (8, 64)
    assert load(root, image_size=10).sizes == (8, 64)  # from the cache
    (root / "test/cat/7.png").unlink()
    assert load(root, image_size=10).sizes == (8, 40)
    assert spied(monkeypatch, one_image, "header") == []

"""Image folders: what is found, how it is decoded, what is refused, what is cached."""

import os

import numpy as np
import pytest
from photos import load, save
from PIL import Image

from ssl_jax.data import sources
from ssl_jax.data.sources import folder, image_files, one_image, tfds_split
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    """Two classes, two unlabeled images, one to test; and what is not an image."""
    root = tmp_path / "photos"
    names = ("cat/2.png", "cat/10.png", "dog/deep/er/a.bmp", "unlabeled/x/u.png")
    written = {name: save(root / name, i) for i, name in enumerate(names)}
    written["loose.png"] = save(root / "loose.png", 7)
    written["test/dog/t.png"] = save(root / "test/dog/t.png", 8)
    (root / "cat/10.txt").write_text("a cat, as everyone can see")
    (root / "README").write_text("P1 it is no bitmap")
    (root / "dog/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    save(root / ".hidden/cat.png")
    save(root / "cat/.hidden.png")
    return root, written


def test_classes_names_labels_and_order(photos, caplog):
    root, written = photos
    data = load(root, image_size=0)
    assert data.class_names == ("cat", "dog")
    # 2 before 10; images with labels first
    names = ["cat/2.png", "cat/10.png", "dog/deep/er/a.bmp", "loose.png"]
    assert data.names_N == (*names, "unlabeled/x/u.png")
    assert data.labels_N.tolist() == [0, 0, 1, -1, -1] and data.labels_N.dtype == "i4"
    for name, image_HWC in zip(data.names_N, data.images_NHWC, strict=True):
        np.testing.assert_array_equal(image_HWC, written[name])
    np.testing.assert_array_equal(data.test_images_MHWC, [written["test/dog/t.png"]])
    assert data.test_labels_M.tolist() == [1] and not data.unreadable
    said = caplog.text
    assert "ignored 2 files that are no images: " in said and ".txt (1)" in said


def test_without_a_test_folder_the_test_set_is_empty(photos):
    root, _ = photos
    (root / "test").rename(root.parent / "elsewhere")
    data = load(root, image_size=4)
    assert data.test_images_MHWC.shape == (0, 4, 4, 3)
    assert data.test_labels_M.shape == (0,)


def test_unlabeled_images_elsewhere_have_absolute_names(photos, monkeypatch):
    root, written = photos
    pile = root.parent / "pile"
    (root / "unlabeled").rename(pile)
    assert len(load(root, image_size=0).names_N) == 4
    for given in (str(pile), "../pile"):
        data = load(root, image_size=0, unlabeled=given)
        assert data.names_N[-1] == f"{pile}/x/u.png"
        np.testing.assert_array_equal(
            data.images_NHWC[-1], written["unlabeled/x/u.png"]
        )
    # A plain name is one in the data folder, whatever the working directory has.
    monkeypatch.chdir(root.parent)
    with pytest.raises(UserError, match=r"unlabeled='pile' is no folder"):
        load(root, image_size=0, unlabeled="pile")


def test_links_to_files_and_folders_are_followed_but_not_round_and_round(photos):
    root, _ = photos
    (root / "cat").rename(root.parent / "cats")
    (root / "cat").symlink_to("../cats")
    save(root.parent / "dogs/2.png")
    (root / "dog/b.png").symlink_to("../../dogs/2.png")
    (root / "dog/more").symlink_to(root.parent / "dogs")
    (root / "cat/up").symlink_to(root / "cat")
    (root / "unlabeled/up").symlink_to(root / "unlabeled")
    (root / "unlabeled/self").symlink_to("self")
    data = load(root, image_size=0)
    dogs = [name for name in data.names_N if name.startswith("dog")]
    assert dogs == ["dog/b.png", "dog/deep/er/a.bmp", "dog/more/2.png"]
    assert data.names_N[:2] == ("cat/2.png", "cat/10.png")
    assert sum(name.startswith("unlabeled") for name in data.names_N) == 1


def test_an_image_without_a_suffix_is_one_by_its_content(photos):
    root, written = photos
    (root / "cat/2.png").rename(root / "cat/2")
    data = load(root, image_size=0)
    np.testing.assert_array_equal(data.images_NHWC[0], written["cat/2.png"])
    assert data.names_N[0] == "cat/2"


def decoded(path, channels, size=(4, 6)):
    return one_image.decode(str(path), (*size, channels)).image_HWC.astype(int)


def test_transparent_pixels_are_white_in_every_way_to_say_so(tmp_path):
    rgba = save(tmp_path / "rgba.png", 1, (4, 6), "RGBA").astype(float)
    opacity = rgba[:, :, 3:] / 255
    expected = rgba[:, :, :3] * opacity + 255 * (1 - opacity)
    assert np.abs(decoded(tmp_path / "rgba.png", 3) - expected).max() <= 1
    la = save(tmp_path / "la.png", 2, (4, 6), "LA").astype(float)
    opacity = la[:, :, 1] / 255
    expected = la[:, :, 0] * opacity + 255 * (1 - opacity)
    assert np.abs(decoded(tmp_path / "la.png", 1)[:, :, 0] - expected).max() <= 1
    palette = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6), mode="P")
    palette.putpalette([i // 3 + 40 * (i % 3) for i in range(72)])
    palette.save(tmp_path / "palette.gif", transparency=3)
    expected = [[255] * 3 if i == 3 else [i, i + 40, i + 80] for i in range(24)]
    np.testing.assert_array_equal(
        decoded(tmp_path / "palette.gif", 3).reshape(24, 3), expected
    )


def test_bits_inks_and_frames(tmp_path):
    wide = np.random.default_rng(3).integers(0, 65_536, (4, 6), np.uint16)
    wide[0, :4] = 0, 65_535, 128, 129  # 128 / 257 rounds to 0, 129 / 257 to 1
    Image.fromarray(wide).save(tmp_path / "wide.png")
    expected = np.round(wide / 257)
    np.testing.assert_array_equal(decoded(tmp_path / "wide.png", 1)[:, :, 0], expected)
    Image.fromarray(wide.astype(np.int32)).save(tmp_path / "wide.tiff")
    assert (decoded(tmp_path / "wide.tiff", 3) == expected[:, :, None]).all()
    bits = wide % 2 == 1
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert (decoded(tmp_path / "bits.png", 1)[:, :, 0] == 255 * bits).all()
    red = Image.new("CMYK", (6, 4), (0, 255, 255, 0))
    red.save(tmp_path / "ink.tiff")
    assert (decoded(tmp_path / "ink.tiff", 3) == [255, 0, 0]).all()
    frames = [Image.new("L", (6, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert (decoded(tmp_path / "film.gif", 1) == 10).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = np.uint8([[10, 90, 170], [50, 130, 210]])
    stored = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
    # EXIF's names of where the first row and the first column are shown
    upright = {
        1: stored,  # top, left
        2: stored[:, ::-1],  # top, right
        3: stored[::-1, ::-1],  # bottom, right
        4: stored[::-1],  # bottom, left
        5: stored.T,  # left, top
        6: np.rot90(stored, -1),  # right, top
        7: stored[::-1, ::-1].T,  # right, bottom
        8: np.rot90(stored),  # left, bottom
    }[orientation]
    for form in ("png", "jpg", "tiff"):
        path = str(tmp_path / f"turned.{form}")
        Image.fromarray(stored).save(path, exif=exif, quality=100)
        assert one_image.header(path, turned=True) == (True, *upright.shape)
        found = decoded(path, 1, upright.shape)[:, :, 0]
        assert np.abs(found - upright).max() <= 1


def test_a_photograph_decoded_small_is_the_one_decoded_whole(tmp_path):
    y, x = np.mgrid[:603, :901]
    waves = [128 + 100 * np.sin(x / 40 + y / f) for f in (30, 50, 90)]
    whole = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    whole.save(tmp_path / "a.jpg", quality=95)
    whole.save(tmp_path / "a.png")
    by_jpeg, by_png = (decoded(tmp_path / f, 3, (32, 32)) for f in ("a.jpg", "a.png"))
    assert np.abs(by_jpeg - by_png).mean() < 0.5
    np.testing.assert_array_equal(by_png, np.asarray(tfds_split.fit(whole, 32)))


def test_all_grey_has_one_channel_and_one_in_color_gives_three(photos):
    root, _ = photos
    for path in root.rglob("*.[pb][nm][gp]"):
        grey = save(path, mode="L")
    data = load(root, image_size=0)
    assert data.images_NHWC.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(data.images_NHWC[0, :, :, 0], grey)
    save(root / "test/dog/t.png")
    data = load(root, image_size=0)
    assert data.images_NHWC.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(data.images_NHWC[0], np.stack([grey] * 3, -1))


BROKEN = {
    "cat/cut.png": "truncated",
    "cat/empty.jpg": "empty",
    "cat/gone.png": "No such file",
    "dog/text.jpg": "its content is no image",
    "test/cat/float.tiff": "no stated range",
    "unlabeled/huge.png": "of more than 9,000 pixels",
    "unlabeled/pipe.png": "not a regular file",
}


@pytest.fixture
def broken(photos):
    root, _ = photos
    save(root / "cat/whole.png", size=(64, 64))
    (root / "cat/cut.png").write_bytes((root / "cat/whole.png").read_bytes()[:5000])
    (root / "cat/whole.png").unlink()
    (root / "cat/empty.jpg").touch()
    (root / "cat/gone.png").symlink_to("nowhere.png")
    (root / "dog/text.jpg").write_text("a dog")
    (root / "test/cat").mkdir()
    Image.fromarray(np.ones((8, 8), np.float32)).save(root / "test/cat/float.tiff")
    save(root / "unlabeled/huge.png", size=(100, 100))
    os.mkfifo(root / "unlabeled/pipe.png")
    return root


def test_what_cannot_be_read_is_listed_and_left_out(broken, caplog, monkeypatch):
    data = load(broken, image_size=8, max_pixels=9_000)
    names = ["cat/2.png", "cat/10.png", "dog/deep/er/a.bmp", "loose.png"]
    assert data.names_N == (*names, "unlabeled/x/u.png")
    assert data.images_NHWC.shape == (5, 8, 8, 3) and data.labels_N.shape == (5,)
    size = data.images_NHWC.nbytes + 128
    assert os.path.getsize(data.images_NHWC.filename) == size
    assert data.unreadable == set(BROKEN)
    first = caplog.text
    assert f"skipped {len(BROKEN)} images that cannot be read" in first
    for name, reason in BROKEN.items():
        assert f"  {name}: " in first
        assert reason in first.partition(f"  {name}: ")[2].partition("\n")[0]
    # From the cache, and said again.
    caplog.clear()
    monkeypatch.setattr(one_image, "decode", None)
    again = load(broken, image_size=8, max_pixels=9_000)
    np.testing.assert_array_equal(again.images_NHWC, data.images_NHWC)
    assert again.names_N == data.names_N
    assert f"skipped {len(BROKEN)} images" in caplog.text
    with pytest.raises(UserError, match=rf"strict=True.* {len(BROKEN)} images"):
        load(broken, image_size=8, max_pixels=9_000, strict=True)


def test_strict_refuses_before_anything_is_cached(photos, cache):
    root, _ = photos
    cut = (root / "cat/2.png").read_bytes()[:150]  # its header can be read
    (root / "cat/2.png").write_bytes(cut)
    with pytest.raises(UserError, match=r"(?s)strict=True.* 1 images.*cat/2.png: "):
        load(root, image_size=8, strict=True)
    assert not any(cache.iterdir())


def test_only_the_first_of_many_are_named():
    bad = [image_files.Unreadable(f"{i}.png", "empty") for i in range(25)]
    with pytest.raises(UserError, match=r"(?s)25 images.* 19\.png.*and 5 more"):
        image_files.report(bad, strict=True)


def test_the_cache_follows_names_sizes_and_dates(photos):
    root, written = photos
    path = root / "cat/2.png"
    save(path, 50)
    os.utime(path, ns=(1, 1))
    before = load(root, image_size=0)
    changed = save(path, 51)
    os.utime(path, ns=(1, 2))
    after = load(root, image_size=0)
    np.testing.assert_array_equal(after.images_NHWC[0], changed)
    path.rename(root / "dog/2.png")
    moved = load(root, image_size=0)
    assert moved.labels_N.tolist() == [0, 1, 1, -1, -1]
    assert moved.names_N[1] == "dog/2.png" and before.names_N[0] == "cat/2.png"
    assert load(root, image_size=5).images_NHWC.shape == (5, 5, 5, 3)


def test_without_class_folders_the_csv_names_the_classes(
    photos, tmp_path, monkeypatch, caplog
):
    root, written = photos
    (root / "cat").rename(root / "unlabeled/cat")
    (root / "dog").rename(root / "unlabeled/dog")
    answers = tmp_path / "labels.csv"
    answers.write_text(
        "path,label\nunlabeled/x/u.png,owl 10\nunlabeled/cat/2.png,owl 9\n"
        "loose.png,\nunlabeled/cat/cut.png,owl 9\nunlabeled/cat/10.png,dog\n"
    )
    (root / "unlabeled/cat/cut.png").write_bytes(b"")
    data = load(root, image_size=0, labels=str(answers))
    assert data.class_names == ("dog", "owl 9", "owl 10")
    cats = ("unlabeled/cat/2.png", "unlabeled/cat/10.png")
    dog, owl = "unlabeled/dog/deep/er/a.bmp", "unlabeled/x/u.png"
    assert data.names_N == ("loose.png", *cats, dog, owl)
    assert data.labels_N.tolist() == [-1, 1, 0, -1, 2]
    np.testing.assert_array_equal(data.images_NHWC[1], written["cat/2.png"])
    assert "line 2 is the only image of the class 'owl 10': was 'owl 9' meant?" in (
        caplog.text
    )
    # Other labels, and nothing is decoded anew.
    monkeypatch.setattr(one_image, "decode", None)
    answers.write_text(f"path,label\nloose.png,owl\n{dog},dog\n")
    data = load(root, image_size=0, labels=str(answers))
    assert data.class_names == ("dog", "owl")
    assert data.labels_N.tolist() == [1, -1, -1, 0, -1]
    answers.write_text("path,label\nloose.png,dog\nloos.png,owl\n")
    with pytest.raises(UserError, match=r"csv line 3.*'loos.png'.*mean 'loose.png'"):
        load(root, image_size=0, labels=str(answers))
    for text, message in (("", "no class folders.*no label"), ("dog", "one class")):
        answers.write_text(f"image,label\nloose.png,{text}\n")
        with pytest.raises(UserError, match=message):
            load(root, image_size=0, labels=str(answers))
    with pytest.raises(UserError, match=r"no class folders.*make one per class.*CSV"):
        load(root, image_size=0)


def rename(old, new):
    return lambda root: (root / old).rename(root / new)


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (rename("", "../x"), {}, "config.data.dir='.*photos' is no folder: give"),
        (lambda _: None, {"root": ""}, "config.data.dir='' is no folder"),
        (rename("dog", ".dog"), {}, "one class only, 'cat', by .*name two"),
        (rename("test/dog", "test/bird"), {}, r"test/bird is not .*2.*\(cat, dog"),
        (rename("loose.png", "test/loose.png"), {}, "loose.png is a test image with"),
        (lambda root: (root / "owl").mkdir(), {}, "owl holds no image: put"),
        (rename("cat/10.txt", "owl.txt"), {"image_size": 8}, None),
        (lambda _: None, {"unlabeled": "u"}, "unlabeled='u' is no folder.*or ''"),
        (lambda _: None, {"unlabeled": "."}, "unlabeled='.' shares images"),
        (lambda _: None, {"unlabeled": "dog/deep"}, "'dog/deep' shares images"),
        (lambda _: None, {"unlabeled": "test"}, "unlabeled='test' shares images"),
        (
            lambda root: (root / "dog/deep/er/a.bmp").write_bytes(b"BM"),
            {},
            "none of the 1 images of the class 'dog' can be read.*a.bmp: ",
        ),
        (
            lambda root: save(root / "cat/3.png", size=(30, 20)),
            {},
            r"2 sizes: 8x8 \(6\), 20x30 \(1\); set config.data.image_size .*as 8\.",
        ),
    ],
)
def test_what_is_refused(photos, cache, change, given, message):
    root, _ = photos
    change(root)
    given = {"root": root, "image_size": 0} | given
    if message is None:
        assert len(load(**given).names_N) == 5
        return
    with pytest.raises(UserError, match=message):
        load(**given)
    if "none of the" not in message:  # what could be decoded was
        assert not cache.exists() or not any(cache.iterdir())


def test_no_image_at_all_and_none_that_can_be_read(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    with pytest.raises(UserError, match=r"no image in .*, only \.mp4 \(1\)"):
        load(root, image_size=8)
    for name in ("a/1.png", "b/2.png"):
        (root / name).parent.mkdir()
        (root / name).touch()
    with pytest.raises(UserError, match=r"of 2 images .*none.*a/1.png: empty"):
        load(root, image_size=8)


def test_people_are_shown_the_files_and_not_what_is_trained_on(tmp_path):
    root = tmp_path / "photos"
    wide = save(root / "cat/wide.png", 1, (30, 60))
    save(root / "dog/huge.png", 2, (700, 1400))
    wanted = Wanted(name="folder", dir=str(root), image_size=8)
    data = folder.load(wanted)
    rows = [data.names_N.index(f"{name}.png") for name in ("cat/wide", "dog/huge")]
    images = sources.originals(wanted, data, rows)
    np.testing.assert_array_equal(images[0], wide)
    assert images[1].shape == (256, 512, 3)
    # One that has gone since is shown as it was read.
    (root / "cat/wide.png").unlink()
    (image_HWC,) = sources.originals(wanted, data, rows[:1])
    np.testing.assert_array_equal(image_HWC, data.images_NHWC[rows[0]])
    # And what is in no file.
    digits = sources.load("digits")
    (image_HWC,) = sources.originals(Wanted(name="digits"), digits, [5])
    np.testing.assert_array_equal(image_HWC, digits.images_NHWC[5])


def test_people_are_shown_12_bits_as_the_run_sees_them(tmp_path):
    values_HW = np.full((8, 8), 4_095, np.uint16)
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(values_HW).save(tmp_path / name)
    wanted = Wanted(name="folder", dir=str(tmp_path), white=4_095)
    (shown,) = sources.originals(wanted, folder.load(wanted), [0])
    assert (shown == 255).all()

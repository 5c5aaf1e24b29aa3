"""Pictures that Pillow does not read: told of, each with what to do."""

import sys
from types import SimpleNamespace

import pytest
from photos import fill, load
from PIL import Image

from ssl_jax.data.sources import formats, image_files
from ssl_jax.errors import UserError

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"
UNREAD = {
    "cat/a.heic": (HEIC, "HEIC: `pip install pillow-heif`, or save"),
    "cat/b.HEIF": (b"\0\0\0\x18ftypmif1", "HEIC: `pip"),
    "cat/c.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL: save it as JPEG or PNG"),
    "cat/d.jpg": (HEIC, "HEIC: `pip"),  # as phones name them
    "cat/e.jpg": (b"\xff\x0a\x7f", "JPEG XL"),
    "dog/f.CR3": (b"\0\0\0\x18ftypcrx ", "raw file: export it as JPEG or PNG"),
    "dog/g.raf": (b"FUJIFILMCCD-RAW 0201", "raw file"),
    "dog/h.nef": (b"", "raw file"),
}
RAW = ("cr2", "cr3", "nef", "arw", "dng", "orf", "rw2", "raf", "pef", "srw")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    fill(tmp_path / "photos", "cat/1.png", "dog/2.png")
    return tmp_path / "photos"


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_pictures_that_are_not_read_are_told_of(root, without_heif, caplog):
    for name, (content, _) in UNREAD.items():
        (root / name).write_bytes(content)
    # What Pillow finds in a raw file is the thumbnail that stands first in it.
    thumbnail = root / "dog/i.dng"
    Image.new("RGB", (16, 12), "red").save(thumbnail, format="TIFF")
    data = load(root)
    assert data.names_N == ("cat/1.png", "dog/2.png")
    assert data.unreadable == {*UNREAD, "dog/i.dng"}
    for name, (_, reason) in UNREAD.items():
        assert reason in caplog.text.partition(f"  {name}: ")[2].partition("\n")[0]
    assert "dog/i.dng: a camera's raw file" in caplog.text
    with pytest.raises(UserError, match="strict=True, and there are 9 images"):
        load(root, strict=True)


def test_a_class_of_such_pictures_alone(root, without_heif):
    (root / "cat/1.png").rename(root / "cat/1.heic")
    (root / "cat/1.heic").write_bytes(HEIC)
    with pytest.raises(UserError, match="of the class 'cat' can be read .*pillow-heif"):
        load(root)


def test_suffixes_in_any_case_are_pictures():
    names = [f"a.{raw}" for raw in RAW] + ["A.HEIC", "a.jxl", "a.hif", "a.avif"]
    assert image_files.images(names)[0] == names
    assert formats.suffixes() >= {".jpg", ".tif", ".webp", ".heic"}


def test_heic_is_read_where_pillow_heif_is_installed(root, monkeypatch):
    """With a stand-in for it, to which all HEIC is red."""
    (root / "cat/a.heic").write_bytes(HEIC)
    assert load(root).unreadable == {"cat/a.heic"}

    def opener():
        Image.register_open(
            "HEIF",
            lambda file, name: Image.new("RGB", (8, 8), "red"),
            lambda begin: begin[4:12] == b"ftypheic",
        )

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(
        sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=opener)
    )
    data = load(root)  # what could not be opened was not remembered as such
    assert data.names_N[1] == "cat/a.heic" and not data.unreadable
    assert (data.images_NHWC[1] == [255, 0, 0]).all()

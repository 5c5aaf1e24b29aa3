"""What a line of a file calls an image, and which one that is."""

import unicodedata

import pytest

from ssl_jax.data.image_names import finder
from ssl_jax.errors import UserError

NFD = unicodedata.normalize("NFD", "é.png")
NAMES = ["cat/1.png", "1.png", "new/a\\b.png", "/else/2.png", "\udce9.png", NFD]


@pytest.fixture
def find(tmp_path):
    root = tmp_path / "photos"
    (root / "lists").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    return finder(NAMES, str(tmp_path / "link"))


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("cat/1.png", "cat/1.png"),
        (" cat/1.png ", "cat/1.png"),
        ("./cat/1.png", "cat/1.png"),
        ("cat\\1.png", "cat/1.png"),
        (".\\cat\\1.png", "cat/1.png"),
        ("cat//x/../1.png", "cat/1.png"),
        ("link/cat/1.png", "cat/1.png"),
        ("photos/cat/1.png", "cat/1.png"),
        ("photos\\1.png", "1.png"),
        ("ROOT/link/cat/1.png", "cat/1.png"),
        ("ROOT/photos/cat/1.png", "cat/1.png"),
        ("../cat/1.png", None),  # from where?
        ("other/cat/1.png", None),
        ("new/a\\b.png", "new/a\\b.png"),
        ("/else/x/../2.png", "/else/2.png"),
        ("\udce9.png", "\udce9.png"),
        ("\ufffd.png", "\udce9.png"),  # as a spreadsheet gives it back
        ("\u00e9.png", NFD),
        ("/elsewhere/cat/1.png", None),
        ("2.png", None),
        ("Cat/1.png", None),
        ("\udcea.png", None),
        ("", None),
        ("..", None),
    ],
)
def test_an_image_is_found_where_only_one_can_be_meant(find, tmp_path, called, name):
    assert find(called.replace("ROOT", str(tmp_path))) == name


def test_what_may_be_two_is_refused():
    find = finder(["a\\1.png", "a/1.png", "\udce9.png", "\udcea.png"], "/b/a")
    assert find("a/1.png") == "a/1.png" and find("a\\1.png") == "a\\1.png"
    assert find("./a/1.png") == find("/b/a/a/1.png") == "a/1.png"
    with pytest.raises(UserError, match="may be '.*' or '.*'; write the name as"):
        find("\ufffd.png")
    find = finder(["a/1.png", "1.png"], "/b/a")
    assert find("a/1.png") == "a/1.png"  # a name goes first
    with pytest.raises(UserError, match="'./a/1.png' may be '1.png' or 'a/1.png'"):
        find("./a/1.png")

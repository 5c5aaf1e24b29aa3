"""Answers by hand: what a spreadsheet may write, and every refusal with its line."""

import numpy as np
import pytest

from ssl_jax.data import answers
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError

NAMES = ("cat/1.png", "new/a, b.png", "new/é;.png", "new/3.png", "new/ 4.png")


def dataset(names=NAMES):
    images_NHWC = np.zeros((5, 2, 2, 1), np.uint8)
    labels_N = np.int32([0, -1, -1, -1, -1])
    none = images_NHWC[:0], labels_N[:0]
    classes = ("cat", "guinea pig", "dog")
    return Dataset("folder", images_NHWC, labels_N, *none, classes, (), names)


@pytest.fixture
def write(tmp_path):
    def to_file(content, encoding="utf-8"):
        path = tmp_path / "queries.csv"
        path.write_bytes(content.encode(encoding))
        return path

    return to_file


@pytest.mark.parametrize(
    "content",
    [
        'image,entropy,label\nnew/3.png,0.2,dog\n"new/a, b.png",1, guinea pig \n'
        "cat/1.png,0,\nnew/é;.png,,cat",
        '\ufeffLabel;Path;\r\ndog;new/3.png;\r\n"guinea pig";new/a, b.png;x\r\n;;\r\n'
        '\r\n;cat/1.png;\r\ncat;"new/é;.png";\r\n',
        "label\timage\rdog\tnew/3.png\rguinea pig\tnew/a, b.png\rcat\tnew/é;.png\r",
    ],
    ids=["as_written", "semicolons_bom_crlf", "tabs_cr"],
)
def test_what_spreadsheets_write_is_read_and_left_alone(write, content):
    path = write(content)
    before = path.read_bytes()
    given = answers.read(path, dataset())
    assert given.index_n.tolist() == [3, 1, 2] and given.label_n.tolist() == [2, 1, 0]
    assert given.index_n.dtype == given.label_n.dtype == np.int32
    assert path.read_bytes() == before


def test_images_without_names_are_called_by_their_row(write):
    given = answers.read(write("image,label\n4,dog\n 0,cat\n"), dataset(names=()))
    assert given.index_n.tolist() == [4, 0] and given.label_n.tolist() == [2, 0]
    for bad in ("5", "-1", "1.0", "²", "new/3.png"):
        with pytest.raises(UserError, match=rf"line 2: .*'{bad}'.* 0 to 4"):
            answers.read(write(f"image,label\n{bad},dog\n"), dataset(names=()))
    with pytest.raises(UserError, match=r"line 3: the image '04' is on line 2 already"):
        answers.read(write("image,label\n4,dog\n04,dog\n"), dataset(names=()))


def test_no_answer_yet_is_none_at_all(write):
    given = answers.read(write("image,label\nnew/3.png,\nnew/ 4.png, \n"), dataset())
    assert given.index_n.shape == given.label_n.shape == (0,)
    assert answers.read(write("image,label\n"), dataset()).index_n.shape == (0,)


def test_names_with_spaces_at_their_ends_and_lines_in_quotes(write):
    content = 'image,note,label\nnew/ 4.png,"two\nlines",cat\n new/3.png ,,cow\n'
    rows = answers.rows(write(content))
    assert [row.line for row in rows] == [2, 4]
    with pytest.raises(UserError, match="line 4: 'cow' is no class"):
        answers.read(write(content), dataset())
    given = answers.read(write(content.replace("cow", "dog")), dataset())
    assert given.index_n.tolist() == [4, 3]


def test_unreadable_images_are_skipped_and_counted(write, caplog):
    path = write("image,label\nnew/cut.png,dog\nnew/3.png,dog\n")
    left_out = dataset()._replace(unreadable=frozenset({"new/cut.png"}))
    given = answers.read(path, left_out)
    assert given.index_n.tolist() == [3]
    assert "skipped 1 rows about images that cannot be read" in caplog.text


def test_an_image_that_validates_may_have_the_label_by_which_it_does(write, caplog):
    path = write("image,label\ncat/1.png,cat\nnew/3.png,dog\n")
    given = answers.read(path, dataset(), np.arange(5) > 0)
    assert given.index_n.tolist() == [3]
    assert "left out 1 rows about images that validate" in caplog.text
    assert answers.read(path, dataset()).index_n.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: the header is empty.*image \(or path\) and label"),
        ("new/3.png,dog\n", "line 1: the header is 'new/3.png', 'dog'.*add"),
        ("\nimage,class\n", "line 2: the header is 'image', 'class', and must"),
        ("image,label,label\n", "line 1: .*each once"),
        ("image,label\nnew/a, b.png,dog", r"line 2 has 3 columns \('new/a', .*quotes"),
        ("image,label\nnew/3.png\n", "line 2 has 1 columns .* header has 2"),
        ('image,label\nnew/3.png,cat\n"new/ 4.png,dog\n', "line 3: .*double quote"),
        ("image,label\n\nnew/5.png,cat\n", "line 3: .*'new/5.png'.*mean 'new/3.png'"),
        ("image,label\n3.png,\n", "line 2: .*'3.png'.*did you mean 'new/3.png'"),
        ("image,label\n,cat\n", "line 2: there is no image ''"),
        (
            "image,label\nnew/3.png,\nnew/ 4.png,cat\nnew/3.png,cat\n",
            "line 4: the image 'new/3.png' is on line 2 already; delete",
        ),
        (
            "image,label\nnew/3.png,Dog\n",
            r"line 2: 'Dog' is no class \(did you mean 'dog'\?\); the classes are "
            "'cat', 'guinea pig', 'dog'. Mend",
        ),
        ("image,label\nnew/3.png,2\n", "line 2: '2' is no class; the"),
        ("image,label\ncat/1.png,dog\n", "line 2: the image 'cat/1.png' validates"),
    ],
)
def test_a_line_that_cannot_be_taken_is_named(write, content, message):
    path, allowed_N = write(content), np.arange(5) > 0
    with pytest.raises(UserError, match=rf"(?s)queries\.csv {message}"):
        answers.read(path, dataset(), allowed_N)
    assert path.read_text() == content


def test_files_that_are_no_utf8_or_not_there(write, tmp_path):
    path = write("image,label\nnew/3.png,cat\nnew/é;.png,dog\n", "latin-1")
    with pytest.raises(UserError, match=r"line 3 is not UTF-8 \(byte 0xe9\): save"):
        answers.read(path, dataset())
    for missing in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(UserError, match="data.labels='.*' cannot be read.*give"):
            answers.read(missing, dataset())


def test_a_long_list_of_classes_is_cut(write):
    many = dataset()._replace(class_names=tuple(f"c{i}" for i in range(100)))
    with pytest.raises(UserError, match="'c19' and 80 more"):
        answers.read(write("image,label\nnew/3.png,owl\n"), many)

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


def test_every_bad_line_is_told_of_at_once(write):
    content = (
        "image,label\nnew/3.png,dog\nnew/5.png,cat\ncat/1.png,dog\n"
        "new/3.png,dog\nnew/é;.png,owl\nnew/ 4.png,-1\n"
    )
    with pytest.raises(UserError) as told:
        answers.read(write(content), dataset())
    head, *lines = str(told.value).splitlines()
    assert head.endswith("queries.csv has 5 lines that cannot be taken:")
    said = {line.split(":")[0]: line for line in lines}
    assert list(said) == [f"  line {number}" for number in (3, 4, 5, 6, 7)]
    assert "no image 'new/5.png'" in said["  line 3"]
    assert "class 'cat' of the data set, and 'dog' here" in said["  line 4"]
    assert "on line 2 already" in said["  line 5"]
    assert "'owl' is no class" in said["  line 6"]
    assert "leave the label empty where there is none" in said["  line 7"]
    many = "".join(f"{i}.png,dog\n" for i in range(30))
    with pytest.raises(UserError, match=r"(?s)30 lines .* line 21: .*\n  and 10 more$"):
        answers.read(write(f"image,label\n{many}"), dataset())
    told = r"(?s)3 lines .*line 2 has 1 .*line 3: there is no image 'b'.*line 4 has 3"
    with pytest.raises(UserError, match=told):
        answers.read(write("image,label\na\nb,c\n1,2,3\n"), dataset())


def test_a_label_that_contradicts_the_folder_is_refused_and_none_that_agrees(write):
    content = "image,label\ncat/1.png,dog\n"
    with pytest.raises(UserError, match="line 2: .* class 'cat' of the data set, and"):
        answers.read(write(content), dataset())
    given = answers.read(write("image,label\ncat/1.png,cat\n"), dataset())
    assert given.index_n.tolist() == [0]
    # Rows without names are a benchmark's, whose truth nobody knows who answers.
    given = answers.read(write("image,label\n0,dog\n"), dataset(names=()))
    assert given.label_n.tolist() == [2]


@pytest.mark.parametrize("label", ["-1", "NaN", "unlabeled", "Unlabelled", "-1.0"])
def test_what_says_that_there_is_no_label_is_no_class(write, label):
    with pytest.raises(UserError, match="line 2: '.*' is no class: leave the label"):
        answers.read(write(f"image,label\nnew/3.png,{label}\n"), dataset())


def test_a_name_that_is_not_utf8_is_read_as_its_bytes(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"image,note,label\nnew/\xe9.png,\xff,dog\n")
    names = (*NAMES[:4], "new/\udce9.png")
    assert answers.read(path, dataset(names)).index_n.tolist() == [4]
    with pytest.raises(UserError, match=r"line 2 is not UTF-8 \(byte 0xe9\): save"):
        answers.read(path, dataset())
    path.write_bytes(b"image,label\nnew/3.png,\xe9l\xe8ve\n")
    with pytest.raises(UserError, match=r"line 2 is not UTF-8 \(byte 0xe9\): save"):
        answers.read(path, dataset())
    path.write_bytes("image,label\nnew/3.png,cat\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"line 1 is not UTF-8 \(byte 0xff\): save"):
        answers.read(path, dataset())


def test_a_class_in_another_unicode_form(write):
    decomposed = dataset()._replace(class_names=("e\u0301te\u0301", "cat", "dog"))
    given = answers.read(write("image,label\nnew/3.png,été\n"), decomposed)
    assert given.label_n.tolist() == [0]

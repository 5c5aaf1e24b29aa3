"""Which folder is a class, a set or nobody's, and where links lead."""

import unicodedata

import numpy as np
import pytest
from photos import fill, load, save

from ssl_jax.data.sources import folder_names
from ssl_jax.data.splits import split
from ssl_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "photos", "cat/1.png", "cat/2.png", "dog/3.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "name", ["unlabeled", "Unlabeled", "unlabelled", "UNLABELLED", "Un-labeled"]
)
def test_images_without_labels_in_any_spelling(root, name):
    fill(root, f"{name}/4.png")
    data = load(root)
    assert data.class_names == ("cat", "dog")
    assert data.names_N[-1] == f"{name}/4.png" and data.labels_N[-1] == -1


@pytest.mark.parametrize("name", ["test", "Test", "TEST", "te st", "tests", "test-set"])
def test_a_test_set_in_any_spelling(root, name):
    save(root / name / "dog/4.png")
    data = load(root)
    assert data.class_names == ("cat", "dog") and len(data.labels_N) == 3
    assert data.test_labels_M.tolist() == [1]


NEARLY = ["unlabled", "unlabeld", "labeled", "unlabel", "Unlabeled images"]


@pytest.mark.parametrize("name", NEARLY)
def test_what_is_nearly_called_unlabeled_is_not_guessed_at(root, name):
    fill(root, f"{name}/4.png")
    with pytest.raises(UserError, match=f"'{name}' .* is nearly called 'unlabeled'"):
        load(root)
    assert load(root, unlabeled=name).labels_N.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize("name", ["best", "van", "brain", "valid", "training", "rest"])
def test_words_that_are_classes(root, name):
    fill(root, f"{name}/4.png")
    assert name in load(root).class_names


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "@EADIR", "$RECYCLE.BIN"])
@pytest.mark.parametrize("place", ["", "cat", "unlabeled/deep", "test", "test/cat"])
def test_folders_of_systems_are_passed_over_with_a_word(root, name, place, caplog):
    fill(root, "unlabeled/deep/4.png", "test/cat/5.png")
    fill(root / place / name, "1.png/THUMB.jpg", "cat/THUMB.png")
    data = load(root)
    assert data.class_names == ("cat", "dog")
    assert len(data.names_N) == 4 and len(data.test_labels_M) == 1
    assert "did not look into 1 folders and links" in caplog.text
    assert f"{name}/ (1)" in caplog.text


SETS = [
    ("train", "val", ""),
    ("train", "", "test"),
    ("train", "val", "test"),
    ("Training", "valid", "Testing"),
    ("Train", "validation", "Test"),
    ("training", "", "testing"),
]


@pytest.mark.parametrize(("train", "val", "test"), SETS)
def test_torchvisions_layout_is_read_as_it_is_meant(tmp_path, train, val, test):
    root = tmp_path / "photos"
    fill(root / train, "cat/1.png", "dog/2.png", "cat/3.png")
    fill(root, "unlabeled/4.png", "loose.png")
    expected = 0
    if val:
        fill(root / val, "dog/5.png", "cat/6.png")
        expected = 2
    if test:
        fill(root / test, "dog/7.png")
    data = load(root)
    assert data.class_names == ("cat", "dog")
    pool = [f"{train}/cat/1.png", f"{train}/cat/3.png", f"{train}/dog/2.png"]
    pool += ["loose.png", "unlabeled/4.png"]
    held_out = [f"{val}/cat/6.png", f"{val}/dog/5.png"][:expected]
    assert data.names_N == (*pool, *held_out)
    assert data.labels_N.tolist() == [0, 0, 1, -1, -1, 0, 1][: 5 + expected]
    assert data.test_labels_M.tolist() == ([1] if test else [])
    parts = split(data, num_labels=0, seed=0)
    assert parts.labeled.tolist() == [0, 1, 2]
    assert parts.unlabeled.tolist() == [0, 1, 2, 3, 4]
    assert parts.validation.tolist() == [5, 6][:expected]
    if expected:
        with pytest.raises(UserError, match="num_validation=2: .* 2 images of its own"):
            split(data, num_labels=0, num_validation=2, seed=0)


def test_images_to_validate_on_beside_class_folders(root):
    fill(root, "val/dog/5.png")
    data = load(root)
    assert data.names_N[-1] == "val/dog/5.png" and data.num_held_out == 1
    assert split(data, num_labels=2, seed=0).validation.tolist() == [3]


def renamed(root, *names):
    for i, name in enumerate(names):
        save(root / name / "9.png", i)
    return names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train"], "train is where the class folders .* beside it are 'cat', 'dog'"),
        (["val"], r"9\.png is a validation image without a class.*'val' is a class"),
        (["test"], r"9\.png is a test image without a class.*'test' is a class"),
        (["test/bird"], r"test class .*test/bird is not among the 2 .*\(cat, dog\)"),
        (["Cat"], "'Cat' and 'cat' in .* differ in case, blanks or Unicode form only"),
        (["c at"], "'c at' and 'cat' in .*: make them one, or rename one"),
        (["cat "], "'cat' and 'cat ' in .* differ in case, blanks"),
        (["caf\u00e9", "cafe\u0301"], "'caf.*' and 'caf.*' in .* differ"),
        (["-1"], "'-1' in .* is no class, but says that there is no label"),
        (["\udce9t"], r"the class '\\udce9t' in .* is not UTF-8, .*: rename it"),
        (
            ["tets/dog"],
            "class folder 'tets' has folders that are called as other classes",
        ),
        (
            ["testing/Cat"],
            "'testing' has .*, 'Cat': if it is a set .*train, val or test",
        ),
        (["unlabeled", "Unlabelled"], "are both 'unlabeled': put all into one"),
        (["test/cat", "Test/cat"], "folders Test and test .* are both 'test'"),
    ],
)
def test_what_is_no_class_or_one_too_many(root, names, message):
    renamed(root, *names)
    with pytest.raises(UserError, match=message):
        load(root)


def test_sets_within_sets(tmp_path):
    root = tmp_path / "photos"
    fill(root, "train/cat/1.png", "train/dog/2.png", "train/test/cat/3.png")
    with pytest.raises(UserError, match="train/test is a set of images within another"):
        load(root)
    (root / "train/test").rename(root / "test")
    fill(root, "train/unlabeled/4.png")
    assert load(root).names_N[-1] == "train/unlabeled/4.png"
    fill(root, "unlabeled/4.png")
    with pytest.raises(UserError, match="are both without labels: put all into one"):
        load(root)


def test_unlabeled_images_left_out_where_others_are_wanted(root, caplog):
    fill(root, "unlabeled/4.png", "pile/5.png")
    assert load(root, unlabeled="pile").names_N[-1] == "pile/5.png"
    assert "left out " in caplog.text and "data.unlabeled='pile'" in caplog.text
    data = load(root, unlabeled="")
    assert data.class_names == ("cat", "dog", "pile") and len(data.names_N) == 4


@pytest.mark.parametrize("target", ["..", "../..", "/", ".", "../../photos"])
def test_a_link_to_a_parent_folder_brings_nothing_in(root, target, caplog):
    fill(root, "unlabeled/4.png", "test/cat/5.png")
    before = load(root)
    (root / "cat/up").symlink_to(target)
    (root / "cat/deep").mkdir()
    (root / "cat/deep/up").symlink_to(root)
    (root / "unlabeled/up").symlink_to(root / "unlabeled/..")
    (root / "test/cat/up").symlink_to("../..")
    caplog.clear()
    data = load(root)
    assert data.names_N == before.names_N
    np.testing.assert_array_equal(data.labels_N, before.labels_N)
    np.testing.assert_array_equal(data.test_images_MHWC, before.test_images_MHWC)
    assert "lead to where they lie" in caplog.text and "up/ (4)" in caplog.text


def test_links_lead_into_no_other_set_or_class(root, caplog):
    fill(root, "test/cat/5.png", "val/dog/6.png")
    (root / "cat/dogs").symlink_to("../dog")
    (root / "dog/1.png").symlink_to("../cat/1.png")
    (root / "unlabeled").mkdir()
    (root / "unlabeled/cats").symlink_to("../cat")
    (root / "cat/more").symlink_to("../test")
    (root / "cat/5.png").symlink_to("../test/cat/5.png")
    (root / "dog/v").symlink_to("../val/dog")
    (root / "test/dog").symlink_to("../dog")
    (root / "val/cat").mkdir()
    (root / "val/cat/t.png").symlink_to("../../test/cat/5.png")
    with pytest.raises(UserError, match="val/cat holds no image, only t.png/"):
        load(root)
    (root / "val/cat/t.png").unlink()
    (root / "val/cat").rmdir()
    with pytest.raises(UserError, match="test/dog holds no image, only dog/"):
        load(root)
    (root / "test/dog").unlink()
    data = load(root)
    assert data.names_N == ("cat/1.png", "cat/2.png", "dog/3.png", "val/dog/6.png")
    for link in ("5.png/ (1)", "more/ (1)", "v/ (1)", "dogs/ (1)", "cats/ (1)"):
        assert link in caplog.text


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("all", ".", "all is a link to .*photos, in which all images lie"),
        ("kitty", "cat", "cat and .*kitty are one folder"),
        ("unlabeled", "dog", "dog and .*unlabeled are one folder"),
        ("val", "test", "val and .*test are one folder"),
        ("Unlabeled", "..", "Unlabeled is a link to .*, in which all"),
    ],
)
def test_two_folders_that_are_one(root, link, target, message):
    fill(root, "test/cat/5.png")
    (root / link).symlink_to(target)
    with pytest.raises(UserError, match=message):
        load(root)


def test_a_class_to_test_on_may_be_written_in_the_other_unicode_form(root):
    fill(root, "caf\u00e9/6.png", "test/cafe\u0301/7.png")
    data = load(root)
    assert data.class_names == ("caf\u00e9", "cat", "dog")
    assert data.test_labels_M.tolist() == [0]
    fill(root, "test/caf\u00e9/8.png")
    with pytest.raises(UserError, match="are one class in two Unicode forms: put all"):
        load(root)


def test_classes_of_a_csv_file(tmp_path):
    root = tmp_path / "photos"
    fill(root, "1.png", "2.png", "3.png")
    path = tmp_path / "labels.csv"
    for labels, message in (
        (("cat", "dog", "-1"), "'-1' in .*labels.csv is no class, but says"),
        (("cat", "dog", "unlabeled"), "'unlabeled' in .* is no class"),
        (("cat", "dog", "Dog"), "'Dog' and 'dog' in .*labels.csv differ in case"),
    ):
        rows = [f"{i}.png,{label}" for i, label in enumerate(labels, start=1)]
        path.write_text("\n".join(["image,label", *rows]))
        with pytest.raises(UserError, match=message):
            load(root, labels=str(path))
    path.write_text("image,label\n1.png,train\n2.png,van\n")
    assert load(root, labels=str(path)).class_names == ("train", "van")


def test_forms_of_names():
    nfd = unicodedata.normalize("NFD", "Ångström")
    assert folder_names.form(nfd) == folder_names.form("ÅNGSTRÖM")
    assert folder_names.form("guinea pig") == folder_names.form("Guinea\u00a0Pig")
    assert folder_names.form("class 1") != folder_names.form("class 2")


def test_all_bad_lines_of_a_csv_that_names_the_classes_are_told_of(root):
    fill(root.parent / "loose", "1.png", "2.png")
    labels = root.parent / "labels.csv"
    for text, message in (
        ("1.png,dog\n1.png,owl\n2.png,d,d", r"(?s)2 lines .*3: .*line 4 has 3 columns"),
        ("1.png,dog,", "csv line 2 has 3 columns"),
    ):
        labels.write_text(f"image,label\n{text}\n")
        with pytest.raises(UserError, match=message):
            load(root.parent / "loose", labels=str(labels))


def test_a_pile_whose_folders_say_nothing(tmp_path, caplog):
    root = tmp_path / "pile"
    names = ("a.png", "2019/b.png", "2019/cat/c.png", "test/d.png", "unlabled/e.png")
    fill(root, *names, "@eaDir/f.png", ".hidden/g.png")
    (root / "2019/notes.txt").write_text("call mother")
    (root / "test/up").symlink_to(root)
    data = load(root, class_folders=False)
    assert {*data.names_N} == {*names} and data.names_N[0] == "2019/b.png"
    assert data.class_names == () and data.labels_N.tolist() == [-1] * 5
    assert len(data.test_labels_M) == 0 and data.num_held_out == 0
    assert "ignored 1 files" in caplog.text and "@eaDir/ (1)" in caplog.text
    labels = tmp_path / "labels.csv"
    labels.write_text("image,label\n2019/cat/c.png,cat\na.png,dog\ntest/d.png,\n")
    answered = load(root, class_folders=False, labels=str(labels))
    assert answered.class_names == ("cat", "dog")
    assert dict(zip(answered.names_N, answered.labels_N.tolist(), strict=True)) == {
        **dict.fromkeys(names, -1),
        **{"2019/cat/c.png": 0, "a.png": 1},
    }
    labels.write_text("image,label\n2018/b.png,cat\nz.png,dog\na.png,dog\n")
    with pytest.raises(UserError, match=r"(?s)2 lines .*2018/b.png.*mean '2019/b.*z.p"):
        load(root, class_folders=False, labels=str(labels))


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ([], {}, "no image in .*pile: give the folder that holds the images"),
        (["a.txt", "c.pdf"], {}, "no image in .*pile, only .txt .1., .pdf .1."),
        (["a/b.png", "c.jpg"], {}, r"of 2 images in .*pile none can be read .a/b\.png"),
        (None, {}, "pile' is no folder: give the one that holds the images"),
        (
            ["a.png"],
            {"unlabeled": "more"},
            "unlabeled='more', and with .*all of .*pile",
        ),
        (
            ["a.png"],
            {"class_folders": True},
            "no class folders .*byol_folder.py learns",
        ),
    ],
)
def test_a_pile_of_no_image(tmp_path, files, wanted, message):
    root = tmp_path / "pile"
    for name in files or ():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("no image of any kind")
    if files is not None:
        root.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        load(root, **{"class_folders": False} | wanted)

"""predictions.csv: every image of a folder, streamed and written whole."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tiny
from ssl_jax.cli import predict
from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError

CLASSES = ("dark, mostly", "light")


def by_brightness(images_BHWC):
    light_B = images_BHWC.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - light_B, light_B], axis=-1).astype(np.float32)


@pytest.fixture
def images(tmp_path):
    """Ten grey images in two folders, a damaged one and a text file."""
    root = tmp_path / "new"
    (root / "more").mkdir(parents=True)
    for i in range(10):
        image = Image.new("L", (20, 10), 28 * i)
        image.save(root / ("more" if i % 2 else ".") / f"{i + 1}.png")
    (root / "more/5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "notes.txt").write_text("ten images")
    return root


def run_of(shape, monkeypatch, labeled=()):
    """A trained run in which `by_brightness` answers; returns the sizes it is asked."""
    asked = []

    def probs(images_BHWC):
        asked.append(images_BHWC.shape)
        return by_brightness(images_BHWC)

    def of_run(wanted, workdir):
        return SimpleNamespace(
            shape=shape,
            class_names=CLASSES,
            reading=Reading(wanted.data.white, wanted.data.max_pixels),
            asked=lambda what: {"predict": probs}[what],
        )

    data = SimpleNamespace(labeled=labeled, validation=())
    monkeypatch.setattr(predict.classifier, "of_run", of_run)
    monkeypatch.setattr(predict.Workdir, "began_with", data)
    return asked


def config(folder, strict=False):
    config = tiny.config()
    config.predict.dir, config.data.strict = str(folder), strict
    return config


ORDER = [*"13579", *(f"more/{i}" for i in (2, 4, 5, 6, 8, 10))]


def table(path):
    with path.open(newline="") as file:
        return [*csv.reader(file)]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_a_row(images, tmp_path, monkeypatch, capsys, caplog, channels):
    asked = run_of((4, 6, channels), monkeypatch)
    monkeypatch.setattr(image_files, "_BLOCK", 4)
    predict.write(config(images), tmp_path)
    header, *rows = table(tmp_path / "predictions.csv")
    assert header == ["path", "label", "p_dark, mostly", "p_light", "reason"]
    assert [row[0] for row in rows] == [f"{name}.png" for name in ORDER]
    unread = rows.pop(ORDER.index("more/5"))  # in its place, with an empty label
    assert unread[1:4] == [""] * 3 and unread[4]
    for name, label, dark, light, reason in rows:
        assert reason == ""
        expected = 28 * (int(name.split("/")[-1].split(".")[0]) - 1) / 255
        assert label == CLASSES[expected > 0.5]
        assert light == f"{np.float32(expected):.6f}"
        assert dark == f"{np.float32(1 - np.float32(expected)):.6f}"
    # Eleven files, of which the seventh is no image.
    assert asked == [(size, 4, 6, channels) for size in (4, 3, 3)]
    said = capsys.readouterr().out
    assert "10 images labeled, 1 that cannot be read\n" in said
    assert "accuracy" not in said  # no folder is called by a class
    assert f"6x4 {'grey' if channels == 1 else 'RGB'}" in said
    assert "dark, mostly: 5\n" in said and "light: 5\n" in said
    assert said.endswith(f"{tmp_path / 'predictions.csv'}\n")
    assert "1 images that cannot be read:\n  more/5.png: " in caplog.text
    assert [path.name for path in tmp_path.glob("predictions*")] == ["predictions.csv"]


def test_a_run_that_is_stopped_leaves_the_old_file(images, tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("older")

    def rows():
        yield predict.Row("1.png", np.float32([1, 0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict.save(path, rows(), CLASSES)
    assert path.read_text() == "older"
    assert [found.name for found in tmp_path.glob("predictions*")] == [path.name]


def test_what_is_refused(images, tmp_path, monkeypatch):
    run_of((4, 4, 1), monkeypatch)
    with pytest.raises(UserError, match=r"(?s)strict=True.* 1 images.*more/5.png: "):
        predict.write(config(images, strict=True), tmp_path)
    for folder in ("", "no/such"):
        with pytest.raises(
            UserError, match="predict.dir='.*' is no folder and no file"
        ):
            predict.write(config(folder), tmp_path)
    with pytest.raises(UserError, match=r"no image below .*notes.txt', only \.txt"):
        predict.write(config(images / "notes.txt"), tmp_path)
    for out, message in (("", "Is a directory"), ("notes.txt", "no predictions: give")):
        asked = config(images)
        asked.predict.out = str(images / out)
        with pytest.raises(UserError, match=f"predict.out='.*{message}"):
            predict.write(asked, tmp_path)
    text = tmp_path / "text"
    text.mkdir()
    (images / "notes.txt").rename(text / "notes.txt")
    with pytest.raises(UserError, match=r"no image below .*, only \.txt \(1\): give"):
        predict.write(config(text), tmp_path)
    (images / "more/5.png").rename(text / "5.png")
    with pytest.raises(UserError, match=r"of 1 images none can be read \(5.png: "):
        predict.write(config(text), tmp_path)
    assert not list(tmp_path.glob("predictions*"))


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    path = tmp_path / "predictions.csv"
    predict.save(path, [predict.Row("\udce9.png", np.float32([1, 0]))], CLASSES)
    assert b"\n\xe9.png," in path.read_bytes()


def test_one_image_and_a_file_that_is_named(images, tmp_path, monkeypatch, capsys):
    run_of((4, 6, 1), monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    one = config(images / "more/10.png")
    for out in ("", "", "~/mine/out.csv", "~/mine/out.csv"):
        one.predict.out = out
        predict.write(one, tmp_path / "w")
    said = [line for line in capsys.readouterr().out.splitlines() if ".csv" in line]
    files = [tmp_path / "w/predictions.csv", tmp_path / "w/predictions_2.csv"]
    files += [tmp_path / "mine/out.csv"] * 2  # what is named is replaced
    assert said == [*map(str, files)]
    for file in files:
        _, row = table(file)
        assert row[:2] == ["10.png", "light"]


def test_folders_called_by_a_class_are_judged(tmp_path, monkeypatch, capsys):
    levels = {"light/1": 250, "light/2": 240, "light/3": 10, "light/in/4": 250}
    levels |= {"dark, mostly/1": 0, "other/1": 0, "2": 0}
    for name, level in levels.items():
        file = tmp_path / f"new/{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), level).save(file)
    run_of((4, 4, 1), monkeypatch, labeled=("light/1.png", "light/9.png"))
    predict.write(config(tmp_path / "new"), tmp_path)
    # One of five is wrong; of two nobody knows.
    right = "accuracy 80.00% on the 5 images in folders called by a class\n"
    assert right in capsys.readouterr().out
    asked = config(tmp_path / "new")
    asked.data.dir = str(tmp_path / "new")
    predict.write(asked, tmp_path)
    assert "class, 1 of which the run had the label of\n" in capsys.readouterr().out


def test_images_are_read_as_the_runs_own_were(tmp_path, monkeypatch, caplog):
    root = tmp_path / "new"
    root.mkdir()
    for name, value in (("dark", 409), ("light", 3_686)):  # of 4,095: 12 bits in 16
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(root / f"{name}.png")
    Image.new("L", (40, 40), 255).save(root / "z.png")
    run_of((4, 4, 1), monkeypatch)
    wanted, out = config(root), tmp_path / "out.csv"
    wanted.predict.out = str(out)
    predict.write(wanted, tmp_path)
    dark, light = "dark, mostly", "light"
    assert [row[1] for row in table(out)[1:]] == [dark, dark, light]
    assert "set config.data.white=4095" in caplog.text
    caplog.clear()
    wanted.data.white, wanted.data.max_pixels = 4_095, 1_000
    predict.write(wanted, tmp_path)
    assert [row[1] for row in table(out)[1:]] == [dark, light, ""]
    assert "data.white" not in caplog.text
    assert "z.png: of more than 1,000 pixels" in caplog.text

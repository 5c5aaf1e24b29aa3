"""A pile of photos as people have them, from training to predictions.

One tree has what section 3 of issue 13 tells of: it is trained on, asked about,
answered, grown and predicted. What each thing should do by itself, the tests of
data/sources say.
"""

import csv
import unicodedata

import jax
import numpy as np
import pytest
from photos import fill, save
from PIL import Image

from configs import base, byol_folder, folder
from ssl_jax.active import questions
from ssl_jax.cli import modes, predict
from ssl_jax.errors import UserError
from ssl_jax.train import pictures
from ssl_jax.workdir import handover
from ssl_jax.workdir.phase_folder import PhaseFolder

CAT = unicodedata.normalize("NFD", "château")  # as macOS names it
CLASSES = ("$50_$100", CAT, "猫")
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"
BYTES = "unlabelled/\udce9t\udce9.png"  # no UTF-8


def bright(path, value, seed=0):
    """A 12-bit image of 16 bits, about `value` of 4,095."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise_HW = np.random.default_rng(seed).integers(-90, 90, (12, 10))
    Image.fromarray((value + noise_HW).astype(np.uint16)).save(path)


@pytest.fixture
def pile(tmp_path):
    """Torchvision's layout. The classes are dark, grey and light."""
    root = tmp_path / "photos"
    for c, name in enumerate(CLASSES):
        for i in range(3):
            bright(root / "Train" / name / f"{i}.png", 400 + 1600 * c, i)
            bright(root / "unlabelled" / f"{name}{i}.tif", 400 + 1600 * c, 10 + i)
        bright(root / "val" / name / "v.png", 400 + 1600 * c, 20)
        bright(root / "Test" / name / "t.png", 400 + 1600 * c, 30)
    bright(root / BYTES, 3_600, 40)
    film = [Image.new("L", (9, 9), value) for value in (10, 200)]
    film[0].save(root / "unlabelled/film.gif", save_all=True, append_images=film[1:])
    fill(root, "__MACOSX/a.png", f"Train/{CAT}/@eaDir/0.png/THUMB.png", ".hidden/b.png")
    (root / "Train/猫/up").symlink_to("..")
    (root / "Train/$50_$100/all").symlink_to(root)
    (root / "unlabelled/self").symlink_to("self")
    (root / "unlabelled/gone.png").symlink_to("nowhere.png")
    (root / "unlabelled/IMG_1.heic").write_bytes(HEIC)
    (root / "unlabelled/IMG_2.jpg").write_bytes(HEIC)
    (root / "unlabelled/_DSC3.NEF").write_bytes(b"II*\0")
    (root / "unlabelled/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "unlabelled/notes.txt").write_text("call mother")
    save(root / "unlabelled/large.png", size=(60, 60))
    return root


UNREADABLE = ("cut.png", "gone.png", "IMG_1.heic", "IMG_2.jpg", "_DSC3.NEF")
UNREADABLE += ("large.png",)


@pytest.fixture
def config(pile):
    config = folder.get_config("supervised")
    config.tensorboard = False
    config.data.update(dir=str(pile), image_size=8, white=4_095, max_pixels=2_000)
    config.model = base.model("convnet", filters=(4, 4), stem_stride=2)
    config.train.update(steps=4, batch_size=4)
    config.train.update(log_every=2, eval_every=2, checkpoint_every=2)
    config.train.augment.update(strong="none", flip=False, shift=1)
    config.query.size = 6
    return config


def trained(config, path):
    return modes.run(config, path, jax.devices()[:1])


def test_a_pile_of_photos_from_training_to_predictions(
    pile, config, tmp_path, monkeypatch, caplog, capsys
):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    first, second = tmp_path / "first", tmp_path / "second"
    result = trained(config, first)
    found = result["data"]
    assert found["classes"] == {name: 3 for name in sorted(CLASSES)}
    assert (found["unlabeled"], found["validation"], found["test"]) == (11, 3, 3)
    assert found["sizes"] == [9, 12] and found["shape"] == [8, 8, 3]
    for name in UNREADABLE:
        assert f"  unlabelled/{name}: " in caplog.text
    said = ("pip install pillow-heif", "raw file", "config.data.max_pixels")
    said += ("1 files have several frames", "@eaDir/ (1)", "up/ (1)", "all/ (1)")
    assert not [words for words in said if words not in caplog.text]
    assert "config.data.white" not in caplog.text  # which is set

    config.query.size = 11
    questions.ask(config, first)
    rows = read(first / "queries.csv")
    assert {row["image"] for row in rows} >= {BYTES, f"unlabelled/{CAT}1.tif"}
    for row in rows:
        row["label"] = next((c for c in CLASSES if c in row["image"]), "猫")
    assert sum(row["label"] == CAT for row in rows) == 3
    # As a spreadsheet on another machine gives it back.
    rows[0]["image"] = str(pile / rows[0]["image"])
    rows[1]["image"] = rows[1]["image"].replace("/", "\\")
    for row in rows[2:]:
        name = (
            row["image"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
        row["image"] = unicodedata.normalize("NFC", f"./{name}")
        row["label"] = unicodedata.normalize("NFC", row["label"])
    write(first / "queries.csv", rows)

    config.data.labels = str(first / "queries.csv")
    result = trained(config, second)
    counts = {"$50_$100": 6, CAT: 6, "猫": 8}
    assert result["data"]["classes"] == counts and result["data"]["unlabeled"] == 0

    # It grows, loses one, and of another only a half is left.
    new = {f"unlabelled/new{i}.tif" for i in range(2)}
    for name in new:
        bright(pile / name, 2_000)
    (pile / f"unlabelled/{CAT}0.tif").unlink()
    (pile / "unlabelled/猫0.tif").write_bytes(b"II*\0")
    config.query.size = 2
    questions.ask(config, second)
    rows = read(second / "queries.csv")
    assert {row["image"] for row in rows if not row["label"]} == new
    with pytest.raises(UserError, match=r"(?s)not as it was.*changed=accept"):
        trained(config, second)
    config.data.changed = "accept"
    assert trained(config, second)["data"]["classes"] == counts

    config.predict.update(dir=str(pile), out=str(tmp_path / "said.csv"))
    predict.write(config, second)
    said = {row["path"]: row["label"] for row in read(tmp_path / "said.csv")}
    assert said.keys() >= {BYTES, f"Test/{CAT}/t.png", *new}
    assert not [name for name in said if "THUMB" in name or "/up/" in name]
    unread = {f"unlabelled/{name}" for name in (*UNREADABLE, "猫0.tif")}
    assert {name for name, label in said.items() if not label} == unread
    config.predict.update(dir=str(pile / "Test"), out="")
    predict.write(config, second)
    assert "on the 3 images in folders called by a class" in capsys.readouterr().out
    config.predict.dir = str(pile / BYTES)
    predict.write(config, second)
    assert len(read(second / "predictions.csv")) == 3
    (row,) = read(second / "predictions_2.csv")
    assert row["path"] == BYTES.partition("/")[2] and row["label"] in CLASSES


def test_a_pile_without_a_label_is_pretrained_asked_about_and_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "before", lambda *_: {})  # as of any other run
    root, first, second = (tmp_path / name for name in ("pile", "first", "second"))
    for i in range(6):
        bright(root / f"2019/May/{i}.png", 10_000, i)
        bright(root / f"{i}.png", 50_000, i)
    config = byol_folder.get_config()
    config.pretrain.algorithm.update(hidden=8, projection=8)
    config.pretrain.update(steps=2, batch_size=4)
    config.pretrain.optimizer.warmup_steps = 0
    small(config, root, "pretrain")
    result = trained(config, first)
    found = result["data"]
    assert found["classes"] == result["test"] == {} and found["unlabeled"] == 12
    assert "no image has a label, so nothing is judged" in capsys.readouterr().err
    journal = (first / "metrics.jsonl").read_text()
    assert "projection_std" in journal and "accuracy" not in journal

    config.predict.dir = str(root)
    with pytest.raises(UserError, match="so that it knows no class: ask which to"):
        predict.write(config, first)
    config.query.update(size=4, strategy="entropy")
    with pytest.raises(UserError, match="so that it knows no class: ask which to"):
        questions.ask(config, first)
    config.query.strategy = "typical"
    questions.ask(config, first)
    said = capsys.readouterr().out
    assert f"--config.train.start_from={first}" in said
    assert f"--config=byol_folder:fixmatch --config.data.dir={root} " in said
    rows = read(first / "queries.csv")
    assert len({row["image"] for row in rows}) == 4
    assert {row["predicted"] + row["entropy"] + row["label"] for row in rows} == {""}
    assert (first / "figures/queries.png").exists()

    for row in rows:
        row["label"] = "dark" if row["image"].startswith("2019") else "light"
    rows[0]["label"], rows[-1]["label"] = "dark", "light"  # of each there is one
    write(first / "queries.csv", rows)
    config = byol_folder.get_config("probe")
    config.train.steps = 2
    small(config, root, "train")
    config.data.labels = str(first / "queries.csv")
    config.train.start_from = str(first)
    classes = trained(config, second)["data"]["classes"]
    assert classes.keys() == {"dark", "light"} and sum(classes.values()) == 4
    _, learned = handover.restored(PhaseFolder(first / "pretrain"))
    _, probed = handover.restored(PhaseFolder(second / "train"))
    for before, after in zip(
        jax.tree.leaves(learned["state"]["params"]["encoder"]),
        jax.tree.leaves(probed["state"]["params"]["encoder"]),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


def small(config, root, phase):
    config.tensorboard = False
    config.data.update(dir=str(root), image_size=8)
    config.model = base.model("convnet", filters=(4, 4), stem_stride=2)
    config[phase].update(log_every=1, eval_every=2, checkpoint_every=2)


def read(path):
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return list(csv.DictReader(text.splitlines()))


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)

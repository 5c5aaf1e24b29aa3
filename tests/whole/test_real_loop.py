"""docs/your_images.md, command by command, with what goes wrong on the way."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import launching

ROOT = Path(__file__).parents[2]
QUICK = (
    "--config.tensorboard=False",
    "--config.data.image_size=8",
    "--config.model.filters=(8,16)",
    "--config.model.stem_stride=1",
    *(
        f"--config.{phase}.{setting}"
        for phase, steps in (("supervised", 30), ("semi_supervised", 40))
        for setting in (
            *(f"steps={steps}", "log_every=20", "eval_every=40", "batch_size=8"),
            *("optimizer.learning_rate=0.1", "algorithm.ema_decay=0.9"),
            *("augment.flip=False", "augment.shift=1"),
            "augment.strong=none",  # RandAugment takes long to compile
        )
    ),
)
NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def commands():
    page = (ROOT / "docs" / "your_images.md").read_text()
    block = re.search(r"```bash\n(.*?)```", page, re.S)[1]
    lines = block.splitlines()
    return [line.removeprefix("python launch.py ").split() for line in lines]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """(folder, truth of its unlabeled images): ones are cats, and sevens dogs."""
    folder = tmp_path_factory.mktemp("user")
    images_NHW, digits_N = load_digits(return_X_y=True)
    images_NHW = (images_NHW.reshape(-1, 8, 8) * 15).astype(np.uint8)
    truth = {}
    for name, digit in zip(NAMES, (1, 7), strict=True):
        for i, row in enumerate(np.flatnonzero(digits_N == digit)[:34]):
            place = folder / "photos" / (name if i < 4 else "unlabeled")
            if i >= 24:
                place = folder / "new_photos"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images_NHW[row]).save(place / f"{row}.png")
            truth[f"{place.name}/{row}.png"] = name
    (folder / "photos" / "unlabeled" / "corrupt.png").write_bytes(b"\x89PNG, it says")
    (folder / "photos" / "unlabeled" / "notes.txt").write_text("call mother")
    (folder / "new_photos" / "empty.png").write_bytes(b"")
    return folder, truth


def test_train_query_answer_train_predict(launch, commands, photos):
    folder, truth = photos
    first, query, second, predict = commands

    def run(command, *more):
        at = [re.sub(r"=(\w*photos|runs)", rf"={folder}/\1", arg) for arg in command]
        return launch(*at, *more)

    status, out, err = run(first, *QUICK)
    assert status == 0, err
    assert "corrupt.png" in err
    assert "2 classes: cat (4), dog (4); 40 unlabeled; 0 test; " in err
    why = "a class has 4 labels, and of each 5 one would"
    assert f"auto: no label validates ({why}" in err
    assert "auto: semi_supervised takes 8 + 2 x 8 unlabeled images a step" in err

    status, out, err = run(query)
    assert status == 0, err
    path = folder / "runs" / "first" / "queries.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["image"] for row in rows}) == 8
    assert (path.parent / "figures" / "queries.png").exists()
    for row in rows:
        row["label"] = truth[row["image"]]

    _write(path, [*rows[:2], rows[2] | {"label": "horse"}, *rows[3:]])
    status, out, err = run(second, *QUICK)
    assert "launch.py: " in err, err
    said = err[err.index("launch.py: ") :]  # behind the images left out
    launching.assert_one_message(status, said, "line 4", "'horse'", "'dog'")
    assert not (folder / "runs" / "second").exists()
    status, out, err = run(query)  # would lose the answers
    launching.assert_one_message(status, err, str(path), "train with them first")

    _write(path, rows)
    status, out, err = run(second, *QUICK)
    assert status == 0, err

    status, out, err = run(predict)
    assert status == 0, err
    assert "empty.png" in err
    with (folder / "runs" / "second" / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    (unread,) = [row for row in predicted if row["reason"]]
    assert unread["path"] == "empty.png" and unread["label"] == unread["p_cat"] == ""
    predicted.remove(unread)
    assert len(predicted) == 20
    right = [row["label"] == truth[f"new_photos/{row['path']}"] for row in predicted]
    assert np.mean(right) >= 0.8
    for row in predicted:
        assert float(row["p_cat"]) + float(row["p_dog"]) == pytest.approx(1, abs=2e-6)


def test_a_folder_called_by_a_home_is_never_made(launch, tmp_path):
    status, _, err = launch("--config=folder", "--workdir=~nobody-here/w", cwd=tmp_path)
    launching.assert_one_message(status, err, "there is no user 'nobody-here'")
    assert not list(tmp_path.iterdir())


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)

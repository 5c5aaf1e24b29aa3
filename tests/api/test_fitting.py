"""`fit` is launch.py's run: the same numbers from arrays, files and a folder."""

import pickle
import re
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import ssl_jax
from ssl_jax.api import fitting
from ssl_jax.errors import UserError
from ssl_jax.train import pace
from ssl_jax.workdir.workdir import Workdir

METHOD = "supervised"  # compiles in half of the time
SETTINGS = {
    "data.image_size": 8,
    "model.filters": "(4, 4)",
    "train.steps": 4,
    "train.batch_size": 5,  # on one device, here as there
    "train.log_every": 2,
    "tensorboard": False,
}


def made(seed=0):
    """images_NHWC of two classes, dark and light, and which they are."""
    labels_N = np.arange(12) % 2
    noise = np.random.default_rng(seed).integers(0, 90, (12, 8, 8, 3))
    return (noise + 150 * labels_N[:, None, None, None]).astype(np.uint8), labels_N


@pytest.fixture(scope="module")
def launched(launch, tmp_path_factory):
    """(a folder of photos, the images in its order, their labels, its run)."""
    root = tmp_path_factory.mktemp("launched")
    images_NHWC, labels_N = made()
    order = [0, 2, 4, 1, 3, 5, *range(6, 12)]
    given = np.array([0, 0, 0, 1, 1, 1, *[-1] * 6])
    for i, (row, label) in enumerate(zip(order, given, strict=True)):
        folder = root / "photos" / ("dark", "light", "unlabeled")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images_NHWC[row]).save(folder / f"{i}.png")
    flags = [f"--config.{field}={value}" for field, value in SETTINGS.items()]
    flags += [f"--config=folder:{METHOD}", f"--config.data.dir={root / 'photos'}"]
    status, _, err = launch(*flags, f"--workdir={root / 'run'}")
    assert status == 0, err
    return root / "photos", images_NHWC[order], given, root / "run"


def same(classifier, workdir):
    """Whether the networks are, to the bit, and what was logged of them."""
    other = ssl_jax.load(workdir)
    pairs = jax.tree.map(np.array_equal, classifier.state, other.state)
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in its.journal.rows()]
        for its in (Workdir(classifier.workdir), Workdir(workdir))
    ]
    return all(jax.tree.leaves(pairs)) and rows[0] == rows[1] and len(rows[0]) >= 2


@pytest.fixture(scope="module")
def fitted(launched, tmp_path_factory):
    """The same by `fit`, of arrays, and what it was called with."""
    _, images_NHWC, labels_N, _ = launched
    names = np.array(["dark", "light", None], object)[labels_N]
    how = dict(method=METHOD, settings=SETTINGS)
    how["workdir"] = tmp_path_factory.mktemp("fitted") / "run"
    return ssl_jax.fit(images_NHWC, names, **how), images_NHWC, names, how


def test_arrays_are_the_folder_to_the_bit(launched, fitted):
    classifier, images_NHWC, *_ = fitted
    assert same(classifier, launched[-1])
    assert classifier.class_names == ("dark", "light")
    assert classifier.predict(images_NHWC).shape == (12,)


def test_a_folder_is_the_run_that_is_there(launched, monkeypatch):
    """Which would refuse another configuration."""
    photos, *_, workdir = launched
    monkeypatch.chdir(photos.parent)
    assert fitting._of_folder("photos", Path("a.csv"), None) == {
        "data.dir": str(photos),
        "data.labels": str(photos.parent / "a.csv"),
    }
    before = (workdir / "result.json").read_bytes()
    how = dict(method=METHOD, settings=SETTINGS, workdir=workdir)
    assert same(ssl_jax.fit(photos, **how), workdir)
    assert (workdir / "result.json").read_bytes() == before
    with pytest.raises(UserError, match="belongs to another configuration"):
        ssl_jax.fit(str(photos), **how, seed=1)


class Column(list):
    """As pandas has one whose rows were shuffled: in order, but not by number."""

    def __getitem__(self, row):
        raise KeyError(row)


def test_an_estimator(fitted):
    classifier, images_NHWC, names, how = fitted
    numbers = np.array([-1 if name is None else name for name in names], object)
    model = ssl_jax.ImageClassifier(**how)
    assert clone(model).get_params() == model.get_params()
    model.fit(images_NHWC, Column(numbers))
    assert model.classes_.tolist() == ["dark", "light"]
    probs_NK = classifier.predict_proba(images_NHWC)
    np.testing.assert_array_equal(model.predict_proba(images_NHWC), probs_NK)
    said = model.predict(images_NHWC)
    assert said.tolist() == model.classes_[probs_NK.argmax(axis=1)].tolist()
    known = np.array([name is not None for name in names])
    assert model.transduction_[known].tolist() == names[known].tolist()
    assert model.transduction_[~known].tolist() == said[~known].tolist()
    copy = pickle.loads(pickle.dumps(model))
    assert copy.score(images_NHWC, said) == 1
    with pytest.raises(NotFittedError):
        ssl_jax.ImageClassifier().predict(images_NHWC)


def test_steps_of_a_run_with_a_budget_are_those_it_began_with(fitted, monkeypatch):
    classifier, images_NHWC, names, how = fitted
    monkeypatch.setattr(pace, "measured", None)  # or it would be measured
    settings = {**SETTINGS, "train.steps": 999, "train.eval_every": 7}
    how = {**how, "settings": settings, "budget_minutes": 3}
    again = ssl_jax.fit(images_NHWC, names, **how)
    assert same(again, classifier.workdir)


def test_a_budget_is_for_what_the_data_settle(launched, tmp_path, monkeypatch):
    """Of 12 images configs/auto.py makes a small network, whose speed then counts."""
    measured, trained = [], []

    def pace_of(phase, data):
        measured.append(phase)
        return pace.Pace(1e3, 0.1, 0.01)

    monkeypatch.setattr(pace, "measured", pace_of)
    monkeypatch.setattr(fitting.run, "run", lambda config, *_: trained.append(config))
    with pytest.raises(KeyboardInterrupt):
        ssl_jax.fit(
            launched[0],
            config="auto",
            method="",
            budget_minutes=1,
            workdir=tmp_path / "run",
            settings={"data.image_size": 8},
        )
    (config,), first = trained, measured[0]
    assert config.adapted.images == 12 and len(measured) == len(config.phases)
    assert first.section.batch_size == config.supervised.batch_size
    unsettled = fitting.configured("auto", {}).model.filters
    assert sum(config.model.filters) < sum(unsettled)


def test_a_stopped_run_says_how_it_goes_on(fitted, monkeypatch):
    _, images_NHWC, names, how = fitted
    monkeypatch.setattr(fitting.run, "run", lambda *given: None)
    with pytest.raises(KeyboardInterrupt, match="the same call with workdir='"):
        ssl_jax.fit(images_NHWC, names, **how)


def test_a_thread_trains_without_signals():
    said = []

    def wait():
        with fitting.run.stop_on_signal() as interrupted:
            said.append(interrupted())

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert said == [False]


def test_mistakes(launched, tmp_path):
    photos, images_NHWC, labels_N, _ = launched
    for given, how, said in [
        ((images_NHWC, labels_N[:5]), {}, "5 labels for 12 images"),
        ((images_NHWC, 0 * labels_N), {}, "labels name 1 classes"),
        ((images_NHWC,), {}, "labels name 0 classes"),
        ((images_NHWC, ["a", *labels_N[1:]]), {}, "labels are of several kinds"),
        ((images_NHWC / 2, labels_N), {}, "floats must be in [0, 1]"),
        (
            (images_NHWC, labels_N),
            {"unlabeled": images_NHWC[:, :4]},
            "bring all to one",
        ),
        ((images_NHWC, labels_N), {"method": "fixmach"}, "did you mean fixmatch"),
        ((images_NHWC, labels_N), {"budget_minutes": -1}, "at least 0"),
        ((images_NHWC, labels_N), {"settings": {"train.step": 3}}, "mean 'steps'"),
        ((images_NHWC, labels_N), {"settings": {"train.steps": "x"}}, "is no int"),
        ((photos, labels_N), {}, "give the CSV file"),
        ((photos,), {"unlabeled": images_NHWC}, "give the folder of the unlabeled"),
        ((["no.png", "none.png"], [0, 1]), {}, "no.png"),
    ]:
        with pytest.raises(UserError, match=re.escape(said)):
            ssl_jax.fit(*given, workdir=tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()


def test_workdirs_are_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a-2").mkdir()
    assert [str(fitting._new(name)) for name in "ab"] == ["runs/a-3", "runs/b"]

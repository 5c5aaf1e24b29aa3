"""queries.csv: what is written can be read back, whatever the names."""

from types import SimpleNamespace

import numpy as np
import pytest

import tiny
from ssl_jax.active import questions
from ssl_jax.data import answers
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError
from ssl_jax.train import sections


def test_names_that_are_no_utf8_go_and_come_back(tmp_path):
    path = tmp_path / "queries.csv"
    asked = {"image": "\udce9, t\udcff.png", "predicted": "é", "label": ""}
    questions.write(path, {"\udce8.png": "é"}, [asked])
    assert b'\n"\xe9, t\xff.png",\xc3\xa9,' in path.read_bytes()
    first, second = answers.rows(path)
    assert (first.image, first.label) == ("\udce8.png", "é")
    assert (second.image, second.label) == (asked["image"], "")
    assert questions.answered(str(path)) == {"\udce8.png": "é"}


def test_k_center_says_that_every_labeled_image_went(monkeypatch):
    config = tiny.config()
    config.query.update(strategy="k_center", size=1)
    rows = np.arange(3, dtype=np.int32)
    data = SimpleNamespace(
        dataset=SimpleNamespace(images_NHWC=np.zeros((3, 8, 8, 1), np.uint8)),
        split=Split(rows[:0], rows, rows[:0]),
    )

    def featurizer(trained):
        return lambda images_NHWC, index_M: np.stack([np.eye(3)[i] for i in index_M])

    monkeypatch.setattr(questions.restored, "featurizer", featurizer)
    query = sections.parse(config).query
    with pytest.raises(UserError, match="k_center' starts from the labeled images"):
        questions.choose(SimpleNamespace(data=data), np.eye(3), query, seed=0)

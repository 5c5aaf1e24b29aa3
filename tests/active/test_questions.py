"""queries.csv: what is written can be read back, whatever the names."""

from pathlib import Path
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


def test_k_center_asks_where_no_image_is_labeled(monkeypatch):
    """And of a run that classifies nothing, nothing is written but the names."""
    config = tiny.config()
    config.query.update(strategy="k_center", size=2)
    rows = np.arange(3, dtype=np.int32)
    dataset = SimpleNamespace(
        images_NHWC=np.zeros((3, 8, 8, 1)), names_N=("a", "b", "c")
    )
    data = SimpleNamespace(dataset=dataset, split=Split(rows[:0], rows, rows[:0]))

    def featurizer(trained):
        return lambda images_NHWC, index_M: np.float32([[4, 0], [1, 1], [0, 1]])[
            index_M
        ]

    monkeypatch.setattr(questions.restored, "featurizer", featurizer)
    trained, query = SimpleNamespace(data=data), sections.parse(config).query
    chosen_M = questions.choose(trained, None, query, seed=0)
    assert chosen_M.tolist() == [1, 0]
    first, second = questions.rows(trained, chosen_M, None)
    assert [*first.values()] == ["b", "", "", "", ""] and second["image"] == "a"


def test_a_run_of_a_notebook_is_gone_on_with_there():
    config = tiny.config()
    config.data.update(name="folder", dir="my photos")
    workdir = SimpleNamespace(
        command=["ipykernel_launcher.py", "-f", "kernel.json"], queries=Path("w/q.csv")
    )
    dataset = SimpleNamespace(class_names=("cat", "dog"))
    said = questions._command(sections.parse(config), workdir, dataset)
    assert said.startswith("ssl_jax.fit('my photos', 'w/q.csv', workdir='ANOTHER')")
    workdir.command = ["/src/launch.py", "--config=folder", "--workdir=w"]
    said = questions._command(sections.parse(config), workdir, dataset)
    assert "launch.py --config=folder --config.data.labels=w/q.csv --workdir" in said


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "queries.csv.tmp").mkdir()
    with pytest.raises(
        UserError, match="queries.csv cannot be written .Is a directory"
    ):
        questions.write(tmp_path / "queries.csv", {}, [])

"""Event files, written without TensorFlow, and read by TensorBoard."""

import io
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from configs import digits
from ssl_jax.workdir import tensorboard
from ssl_jax.workdir.files import write_figure
from ssl_jax.workdir.journal import Journal


def _row(**values):
    return {"phase": "train", "step": 10, "seconds": 1.0, **values}


@pytest.fixture
def config():
    config = digits.get_config("debug")
    config.seed = 7
    return config.to_dict()


def test_a_tag_is_the_quantity_and_the_set_and_a_class_is_in_its_quantity():
    row = _row(**{"train/loss": 1.5, "test/accuracy": 0.5, "train/accuracy": None})
    row |= {"train/kept_per_class": [1.0, None, 3.0], "train/twenty": [0.0] * 20}
    row |= {"train/many": [0.0] * 21, "train/bins": [[1.0, None, 0.5]]}
    assert tensorboard.scalars(row) == {
        "loss/train": 1.5,
        "accuracy/test": 0.5,
        "kept_per_class/train/0": 1.0,
        "kept_per_class/train/2": 3.0,
        **{f"twenty/train/{k}": 0.0 for k in range(20)},
    }
    row = _row(**{"train/loss": 1.5})
    assert tensorboard.scalars(row, several=True) == {"loss/train/train": 1.5}


def test_event_files_hold_rows_hyperparameters_and_figures(
    tmp_path, config, events, monkeypatch
):
    from matplotlib.figure import Figure

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    figure = tmp_path / "train_views.png"
    write_figure(figure, Figure(figsize=(2, 1)))
    board = tensorboard.TensorBoard(tmp_path, True, config)
    board.row(_row(**{"train/loss": 1.5}))
    board.row(_row(**{"test/accuracy": 0.25}) | {"step": 20})
    board.figures(20, {"train_views": figure})
    (file,) = tmp_path.glob("events.out.tfevents.*")
    read = events(tmp_path)  # while it is written
    board.close()
    assert "tensorflow" not in sys.modules
    assert sorted(read.Tags()["scalars"]) == ["accuracy/test", "loss/train"]
    (scalar,) = read.Scalars("accuracy/test")
    assert (scalar.step, scalar.value) == (20, 0.25)
    (image,) = read.Images("figures/train_views")
    assert (image.step, image.width, image.height) == (20, 300, 150)
    with Image.open(io.BytesIO(image.encoded_image_string)) as shown:
        with Image.open(figure) as drawn:
            np.testing.assert_array_equal(shown, drawn.convert("RGB"))

    from tensorboard.plugins.hparams import metadata

    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    session = metadata.parse_session_start_info_plugin_data(content)
    assert session.hparams["seed"].number_value == 7
    assert session.hparams["train.algorithm.threshold"].number_value == 0.95
    assert session.hparams["train.algorithm.name"].string_value == "fixmatch.FixMatch"
    assert session.hparams["data.labeled_in_unlabeled"].bool_value is True
    assert json.loads(session.hparams["phases"].string_value.replace("'", '"')) == [
        "train"
    ]


def test_a_run_that_goes_on_shows_each_row_and_figure_once(
    tmp_path, config, events, monkeypatch
):
    """Of two phases, killed at step 30 of the second while it wrote: it goes on from
    20, and its views are drawn again."""
    from matplotlib.figure import Figure

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    config |= {"phases": ("train", "second"), "second": config["train"]}
    drawn = {}
    for name in ("train_views", "second_views"):
        drawn[name] = tmp_path / f"{name}.png"
        write_figure(drawn[name], Figure(figsize=(1, 1)))

    def launch(rows, figures):
        board = tensorboard.TensorBoard(tmp_path, True, config)
        journal = Journal(tmp_path / "metrics.jsonl")
        journal.resume(rows[0]["phase"], rows[0]["step"] - 10)
        board.resume(journal)
        board.figures(0, {name: drawn[name] for name in figures})
        for row in rows:
            journal.write(row)
            board.row(row)
        board.close()
        journal.close()

    rows = [
        _row(**{"train/loss": 0.5}) | {"phase": phase, "step": step}
        for phase in ("train", "second")
        for step in (10, 20, 30)
    ]
    launch(rows, drawn)
    (killed,) = tmp_path.glob("events.out.tfevents.*")
    with killed.open("ab") as file:
        file.write(killed.read_bytes()[:50])
    before = events(tmp_path).Scalars("loss/train/second")
    launch([rows[-1] | {"train/loss": 0.25}], ["second_views"])

    read = events(tmp_path)
    train, second = (read.Scalars(f"loss/train/{p}") for p in ("train", "second"))
    assert [(s.step, s.value) for s in train] == [(10, 0.5), (20, 0.5), (30, 0.5)]
    assert [(s.step, s.value) for s in second] == [(10, 0.5), (20, 0.5), (30, 0.25)]
    assert second[:2] == before[:2]  # at their times
    for name in drawn:
        (image,) = read.Images(f"figures/{name}")
        assert image.step == 0
    assert len(list(tmp_path.glob("*tfevents*"))) == 2
    assert not (tmp_path / "events.cut").exists()


def test_clus_writer_is_asked_where_tensorflow_is_loaded(tmp_path, config, monkeypatch):
    asked = []

    class SummaryWriter:
        def __init__(self, folder):
            asked.append(folder)

        def __getattr__(self, name):
            return lambda *_: asked.append(name)

    clu = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.setitem(sys.modules, "clu.metric_writers", clu)
    monkeypatch.setattr("clu.metric_writers", clu, raising=False)
    board = tensorboard.TensorBoard(tmp_path, True, config)
    board.row(_row(**{"train/loss": 1.5}))
    board.close()
    assert asked == [str(tmp_path), "write_hparams", "write_scalars", "flush", "close"]
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_one_warning_and_no_files(
    tmp_path, config, monkeypatch, caplog
):
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    board = tensorboard.TensorBoard(tmp_path, True, config)
    board.row(_row(**{"train/loss": 1.0}))
    board.figures(10, {"train_views": tmp_path / "none.png"})
    board.close()
    (said,) = caplog.messages
    assert said == "no TensorBoard files: tensorboard is not installed."
    assert not list(tmp_path.iterdir())

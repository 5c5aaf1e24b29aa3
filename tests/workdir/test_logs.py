"""Rows on their way to the journal, the terminal and TensorBoard."""

import io
import json
import sys
import types

import jax.numpy as jnp
import pytest

from ssl_jax.core import mean, metrics
from ssl_jax.errors import UserError
from ssl_jax.evaluate import reported
from ssl_jax.workdir import logs
from ssl_jax.workdir.journal import Journal


class Silent:
    def row(self, row):
        pass


@pytest.fixture
def log(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    rows = journal.resume("train", 0)
    yield logs.Log(rows, journal, Silent(), Silent(), reported.warning)
    journal.close()


def _head(step):
    return {"phase": "train", "step": step, "seconds": 1.0}


def _sums(loss):
    nothing = mean(jnp.zeros(2), jnp.zeros(2, bool))
    return {"train": {"loss": mean(jnp.array(loss)), "kept_accuracy": nothing}}


def test_a_row_waits_until_the_next_one_or_a_flush(log, tmp_path):
    def steps():
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    log.put(_head(10), _sums([1.0, 2.0]))
    assert steps() == []
    log.put(_head(20), _sums([1.0]))
    assert steps() == [10]
    log.flush()
    log.flush()
    assert steps() == [10, 20]


def test_a_row_holds_means_and_leaves_out_what_counts_nothing(log, tmp_path):
    log.put(_head(10), _sums([1.0, 2.0]))
    log.flush()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row == {**_head(10), "train/loss": 1.5}


def _with_vectors(loss):
    """Sums with the metrics that are not one number, NaN among them."""
    probs_UK = jnp.array([[0.9, 0.1], [0.3, 0.7]])
    threshold_K = jnp.array([0.95, jnp.nan])
    quality = metrics.pseudo_label_quality(
        probs_UK, jnp.array([1.0, 0.1]), jnp.array([0, 0]), threshold_K
    )
    return {"train": {**_sums(loss)["train"], **quality}}


def test_vectors_are_lists_and_a_calibration_is_two_entries(log, tmp_path):
    log.put(_head(10), _with_vectors([1.0]))
    log.flush()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    row = json.loads(text)
    assert "train/calibration" not in row and "train/loss" in row
    assert row["train/kept_per_class"] == pytest.approx([1, 0.1])
    assert row["train/threshold_per_class"] == [pytest.approx(0.95), None]
    assert row["train/ece"] == pytest.approx((0.1 + 0.7) / 2)
    bins = row["train/reliability"]
    assert len(bins) == 15 and bins[0] == [0, None, None]
    assert bins[10] == [1, pytest.approx(0.7), 0]
    assert bins[13] == [1, pytest.approx(0.9), 1]


def test_a_resumed_journal_keeps_vectors_bit_for_bit(log, tmp_path):
    for step in (10, 20, 30):
        log.put(_head(step), _with_vectors([1 / step]))
    log.flush()
    path = tmp_path / "metrics.jsonl"
    written = path.read_text().splitlines(keepends=True)
    journal = Journal(path)
    rows = journal.resume("train", 20)
    assert path.read_text() == "".join(written[:2])
    resumed = logs.Log(rows, journal, Silent(), Silent(), reported.warning)
    resumed.put(_head(30), _with_vectors([1 / 30]))
    resumed.flush()
    journal.close()
    assert path.read_text() == "".join(written)


def test_tensorboard_gets_numbers_and_short_lists_spread():
    row = {
        **_head(10),
        "train/loss": 1.5,
        "train/accuracy": None,
        "train/kept": [1.0, None, 3.0],
        "train/twenty": [0.0] * 20,
        "train/many": [0.0] * 21,
        "train/bins": [[1.0, None, 0.5]],
    }
    assert logs.scalars(row) == {
        "train/train/loss": 1.5,
        "train/train/kept/0": 1.0,
        "train/train/kept/2": 3.0,
        **{f"train/train/twenty/{k}": 0.0 for k in range(20)},
    }


def test_a_loss_that_is_not_finite_is_written_and_then_an_error(log, tmp_path):
    log.put(_head(10), _sums([1.0, float("nan")]))
    with pytest.raises(UserError, match="nan.*before step 10 of phase 'train'"):
        log.flush()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["train/loss"] is None  # JSON has no NaN


def test_progress_is_lines_in_a_file_and_a_bar_on_a_terminal(monkeypatch):
    row = {**_head(10), "train/loss": 0.5, "test/accuracy": 0.25}
    shown = {}
    for terminal in (False, True):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stderr", stream)
        progress = logs.Progress("train", 0, 40)
        progress.at(10)
        progress.row(row)
        progress.close()
        shown[terminal] = stream.getvalue()
    assert shown[False].count("\n") == 1
    assert "train 10/40  train/loss 0.5  test/accuracy 0.25" in shown[False]
    assert "steps/s" in shown[False] and "left" in shown[False]
    assert "10/40" in shown[True] and "\r" in shown[True] and "step/s" in shown[True]


def test_without_tensorflow_one_warning_and_no_files(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(logs.logging, "warning", lambda *args: warnings.append(args))
    board = logs.TensorBoard(tmp_path, True)
    board.row({**_head(10), "train/loss": 1.0})
    board.close()
    assert len(warnings) == 1 and "tensorflow and tensorboard" in str(warnings)
    assert not list(tmp_path.iterdir())


def test_event_files_hold_the_rows(launch, tmp_path, monkeypatch):
    """Written in a process of its own: TensorFlow warns when it is imported. Read by
    TensorBoard, which does without it where it finds this module."""
    status, _, err = launch(
        "--config=configs/digits.py:supervised,debug",
        f"--workdir={tmp_path / 'run'}",
        "--config.tensorboard=True",
    )
    assert status == 0, err
    monkeypatch.setitem(
        sys.modules, "tensorboard.compat.notf", types.ModuleType("notf")
    )
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [e.step for e in events.Tensors("train/train/loss")] == [2, 4]
    assert "train/test/accuracy" in events.Tags()["tensors"]


def test_a_collapse_is_told_once_with_both_numbers(log, caplog):
    def row(step, std, rank):
        measured = {"projection_std": mean(jnp.array([std]))}
        held_out = {"effective_rank": mean(jnp.array([rank]))}
        sums = _sums([1.0])
        log.put(_head(step), {"train": sums["train"] | measured, "test": held_out})
        log.flush()
        return [record.getMessage() for record in caplog.records]

    assert row(1, 0.9, 7.0) == []
    (said,) = row(2, 0.02, 1.1)
    assert "'train' has collapsed at step 2" in said
    assert "projection_std 0.02" in said and "effective_rank 1.1" in said
    assert len(row(3, 0.01, 1.0)) == 1

"""Rows on their way to the journal and the terminal."""

import io
import json
import sys

import jax
import jax.numpy as jnp
import pytest

from ssl_jax.core import mean, metrics
from ssl_jax.errors import UserError
from ssl_jax.evaluate import reported
from ssl_jax.workdir import logs
from ssl_jax.workdir.journal import Journal


class Silent:
    def row(self, *_):
        pass


class Hand:
    """A clock's hand that is moved by hand."""

    at = 0.0

    def __call__(self):
        return self.at


def _log(rows, journal, hand=None):
    clock = logs.Clock(0.0, hand or Hand())
    return logs.Log(rows, journal, Silent(), Silent(), reported.warning, clock)


@pytest.fixture
def log(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    yield _log(journal.resume("train", 0), journal)
    journal.close()


def _head(step):
    return {"phase": "train", "step": step}


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


@jax.jit
def _slow_sums(x):
    """Of a fifth of a second or so."""
    square = jax.lax.fori_loop(0, 300, lambda _, m: m @ m, jnp.eye(300) * x)
    return _sums(square[0])


def test_a_row_is_written_once_its_step_is_done_with_the_time_of_that(tmp_path):
    """Not with the time at which the step was sent, or the next row put."""
    journal, hand = Journal(tmp_path / "metrics.jsonl"), Hand()
    rows = journal.resume("train", 0)
    log = _log(rows, journal, hand)
    x = jnp.float32(1)
    jax.block_until_ready(_slow_sums(x))  # compiles it
    sums = _slow_sums(x)
    log.put(_head(10), sums)
    hand.at = 1.0
    log.write_done()
    assert rows == []  # and did not wait
    jax.block_until_ready(sums)
    hand.at = 2.0
    log.write_done()
    hand.at = 9.0
    log.put(_head(20), _sums([1.0]), logs.Moment(3.0, 3.0))
    log.flush()
    journal.close()
    assert [row["seconds"] for row in rows] == [2.0, 3.0]


def test_the_clock_goes_on_between_launches_and_counts_training_apart():
    hand = Hand()
    clock = logs.Clock(100.0, hand)
    hand.at = 5.0
    with clock.paused():
        hand.at = 8.0
    hand.at = 10.0
    assert clock.now() == logs.Moment(seconds=110.0, training=7.0)
    with clock.stopped():
        hand.at = 20.0
    assert clock.now() == logs.Moment(seconds=110.0, training=7.0)


def test_a_row_holds_means_and_leaves_out_what_counts_nothing(log, tmp_path):
    log.put(_head(10), _sums([1.0, 2.0]))
    log.flush()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row == {**_head(10), "seconds": 0.0, "train/loss": 1.5}


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
    resumed = _log(rows, journal)
    resumed.put(_head(30), _with_vectors([1 / 30]))
    resumed.flush()
    journal.close()
    assert path.read_text() == "".join(written)


def test_a_loss_that_is_not_finite_is_written_and_then_an_error(log, tmp_path):
    log.put(_head(10), _sums([1.0, float("nan")]))
    with pytest.raises(UserError, match="nan.*before step 10 of phase 'train'"):
        log.flush()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["train/loss"] is None  # JSON has no NaN


def _shown(monkeypatch, rows, *, first=0, total=400, terminal=False):
    """What is shown of rows (step, seconds, seconds of training, values)."""
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    progress = logs.Progress("train", first, total)
    for step, seconds, training, values in rows:
        progress.at(step)
        progress.row({**_head(step), **values}, logs.Moment(seconds, training))
    progress.close()
    return stream.getvalue()


def test_progress_is_lines_in_a_file_and_a_bar_on_a_terminal(monkeypatch):
    rows = [(10, 5.0, 5.0, {"train/loss": 0.5, "test/accuracy": 0.25})]
    said = _shown(monkeypatch, rows, total=40)
    assert said == (
        "train 10/40  train/loss 0.5  test/accuracy 0.25  2 steps/s  0:15 left\n"
    )
    bar = _shown(monkeypatch, rows, total=40, terminal=True)
    assert "10/40" in bar and "\r" in bar and "2 steps/s  0:15 left" in bar


def test_progress_is_a_bar_in_a_notebook(monkeypatch):
    """Whose stream is no terminal."""
    kernels = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    stream = kernels()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = logs.Progress("train", 0, 40)
    progress.at(10)
    progress.close()
    assert "10/40" in stream.getvalue() and "\r" in stream.getvalue()


def _paces(said):
    return [line.partition("  ")[2] for line in said.splitlines()]


def test_steps_a_second_are_of_training_since_the_row_before(monkeypatch):
    """50 steps took 5 s, then 4, then with an evaluation of a minute before them 10."""
    rows = [(50, 5.0, 5.0, {}), (100, 9.0, 9.0, {}), (150, 79.0, 19.0, {})]
    paces = ["10 steps/s  0:35 left", "12.5 steps/s  0:24 left", "5 steps/s  0:50 left"]
    assert _paces(_shown(monkeypatch, rows)) == paces


def test_nothing_done_is_no_rate_and_no_time_left(monkeypatch):
    """It was 0 steps/s, and 1,111,111 minutes."""
    said = _shown(monkeypatch, [(0, 0.0, 0.0, {}), (50, 5.0, 5.0, {})])
    assert _paces(said) == ["-- steps/s  -- left", "10 steps/s  0:35 left"]


def test_a_launch_that_resumes_says_where_and_counts_its_own_steps(monkeypatch):
    said = _shown(monkeypatch, [(350, 1005.0, 5.0, {})], first=300)
    resumes, line = said.splitlines()
    assert resumes == "train resumes at step 300"
    assert line == "train 350/400  10 steps/s  0:05 left"


def test_quick_rows_are_a_line_in_two_seconds_the_first_and_the_last(monkeypatch):
    """GCN's 200 of 11 s, a training loss and an evaluation each; the rate is over two
    seconds at least. An evaluation is not lost among other rows."""
    every = {"train/loss": 1.0, "test/accuracy": 0.5}
    rows = [(i, i * 0.055, i * 0.055, every) for i in range(1, 201)]
    said = _shown(monkeypatch, rows, total=200)
    steps = [int(line.split("/")[0].split()[1]) for line in said.splitlines()]
    assert steps == [1, 38, 75, 112, 149, 186, 200]
    assert "18.2 steps/s" in said.splitlines()[-1]
    rows = [(i, i * 0.055, i * 0.055, every if i == 20 else {}) for i in range(1, 40)]
    steps = [line.split()[1] for line in _shown(monkeypatch, rows).splitlines()]
    assert steps == ["1/400", "20/400", "38/400", "39/400"]


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


def test_a_warning_is_its_words(launch, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text(
        "from absl import logging\n\ndef get_config():\n"
        "    logging.warning('mind %s', 'the gap')\n    raise SystemExit(3)\n"
    )
    status, _, err = launch(f"--config={config}")
    assert (status, err.splitlines()[-1]) == (3, "WARNING: mind the gap")

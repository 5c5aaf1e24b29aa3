"""A run that was killed and went on is, bit for bit, the run that was not.

experiments/speed/kill_resume.py does this many times over; here are a few kills of
each kind.
"""

import json
import re
import shutil
import signal
import time

import pytest

from configs import digits
from experiments.speed import kill_resume
from launching import forked
from ssl_jax.errors import UserError
from ssl_jax.train.run import run
from ssl_jax.workdir import tensorboard
from ssl_jax.workdir.event_files import EventFile
from ssl_jax.workdir.journal import Journal

FLAGS = [
    f"--config={kill_resume.CONFIG}",
    "--config.train.steps=200",
    "--config.train.log_every=5",
    "--config.train.eval_every=20",
    "--config.train.checkpoint_every=10",
]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """What the first process compiles the others find; not in the session's folder: a
    process killed while it writes leaves half a file."""
    folder = tmp_path_factory.mktemp("compiled")
    with forked(JAX_COMPILATION_CACHE_DIR=str(folder)) as launcher:
        yield launcher


@pytest.fixture
def quick_starts(monkeypatch, launcher):
    """kill_resume's processes, forked."""

    def launch(workdir, flags):
        log = workdir.parent / f"{workdir.name}.log"
        return launcher.start(f"--workdir={workdir}", *flags, log=log)

    monkeypatch.setattr(kill_resume, "launch", launch)


def test_killed_run_equals_undisturbed_run(quick_starts, tmp_path):
    plan = [
        ("save", signal.SIGKILL),
        ("training", signal.SIGKILL),
        ("training", signal.SIGTERM),
        ("figures", signal.SIGKILL),
    ]
    report = kill_resume.kill_resume(tmp_path, FLAGS, plan, seed=0)
    assert report["differences"] == []
    # A machine that is slow at the wrong moment may end the run before the last kills.
    assert len(report["kills"]) >= 2
    assert report["resumed"] == len(report["kills"])


def test_stopping_and_starting_twice(quick_starts, tmp_path):
    """Ctrl-C saves at the current step; two processes cannot train in one workdir."""
    workdir = tmp_path / "w"
    flags = [*FLAGS, "--config.train.steps=100000"]
    first = kill_resume.launch(workdir, flags)
    journal = workdir / "metrics.jsonl"
    while first.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    second = kill_resume.launch(workdir, flags)
    assert second.wait() == 2
    said = (tmp_path / "w.log").read_text()
    assert "another process is training in workdir" in said and "Traceback" not in said
    first.send_signal(signal.SIGINT)
    assert first.wait() == 0
    said = (tmp_path / "w.log").read_text()
    assert "the same command goes on" in said and "Traceback" not in said
    saved = max(int(p.name) for p in (workdir / "train" / "checkpoints").iterdir())
    last_row = json.loads(journal.read_text().splitlines()[-1])
    assert last_row["step"] <= saved < last_row["step"] + 5
    assert not (workdir / "result.json").exists()


def test_patience_and_what_a_kill_may_leave_behind_it(tmp_path, events, monkeypatch):
    """Runs in this process; what a kill leaves is made by deleting what came after."""
    # Not clu's writer, whose numbers are tensors, where a test before has TensorFlow.
    monkeypatch.setattr(tensorboard, "_kind_of_writer", lambda: EventFile)
    config = digits.get_config("debug")
    config.tensorboard = True
    config.data.num_validation = 10
    config.train.update(patience=2, steps=400, log_every=1, checkpoint_every=3)
    calm, other = tmp_path / "calm", tmp_path / "other"
    result = run(config, calm)
    assert result["phases"]["train"]["stopped"] == "patience"
    assert result["resumed"] == 0
    steps = result["phases"]["train"]["steps"]
    assert steps < 400

    shutil.copytree(calm, other)
    (other / "result.json").unlink()  # killed before it was written
    assert run(config, other)["resumed"] == 1
    assert kill_resume.compare(calm, other) == []

    # Killed while the figures were drawn, and then the newest checkpoint is damaged.
    (other / "figures" / "train_confusion_matrix.png").unlink()
    (other / "result.json").unlink()
    (other / "train" / "done.json").unlink()
    newest = other / "train" / "checkpoints" / str(steps)
    for file in newest.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be read") as error:
        run(config, other)
    readable = re.search(r"readable one is (\S+):", str(error.value))[1]
    assert "delete every later one, and run the same command" in str(error.value)
    assert int(readable.rpartition("/")[2]) < steps
    shutil.rmtree(newest)
    assert run(config, other)["resumed"] == 3
    assert kill_resume.compare(calm, other) == []
    assert sorted(p.name for p in (calm / "figures").iterdir()) == sorted(
        p.name for p in (other / "figures").iterdir()
    )
    # TensorBoard shows the rows of the journal, and no figure twice.
    read = events(other)
    rows = [
        (row["step"], tag, pytest.approx(value))
        for row in Journal(other / "metrics.jsonl").rows()
        for tag, value in tensorboard.scalars(row).items()
    ]
    shown = [
        (scalar.step, tag, scalar.value)
        for tag in read.Tags()["scalars"]
        for scalar in read.Scalars(tag)
    ]
    assert sorted(shown) == sorted(rows, key=lambda row: row[:2])
    for tag in read.Tags()["images"]:
        assert len(read.Images(tag)) == 1, tag

    # And a difference is seen where there is one.
    shutil.rmtree(newest)
    journal = other / "metrics.jsonl"
    journal.write_text(journal.read_text().replace('"test/accuracy"', '"accuracy"'))
    assert kill_resume.compare(calm, other) == [
        "metrics.jsonl",
        "last checkpoint of train",
    ]


def test_subprocess_failure_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="no config 'nope.py'"):
        kill_resume.finish(tmp_path / "w", ["--config=nope.py"])

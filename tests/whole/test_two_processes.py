"""Two processes over loopback train one run: as one does, and as one that was killed
or stopped in between. Their launches are shared; the files of a run tell most of it."""

import json
import signal
import socket
import time

import jax
import numpy as np
import pytest

from experiments.speed import kill_resume
from launching import forked
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.journal import Journal

FLAGS = [
    "--config=digits:mean_teacher,debug",
    "--config.model.name=mlp",
    "--config.train.steps=100",  # or it is over before the second is told to stop
    "--config.train.log_every=5",
    "--config.train.eval_every=50",
    "--config.train.checkpoint_every=5",
]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    with forked(JAX_COMPILATION_CACHE_DIR=str(folder)) as launcher:
        yield launcher


class Two:
    """Two launches, the second with a workdir that nobody can write: it would lie below
    a file, which stops root as well."""

    def __init__(self, launcher, workdir, *flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        below = workdir.parent / "a_file"
        below.touch()
        together = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
        self.workdir = workdir
        self.logs = [workdir.parent / f"{workdir.name}.{i}.log" for i in range(2)]
        for log in self.logs:
            log.write_text("")
        self.processes = [
            launcher.start(
                *(*FLAGS, *flags, *together, f"--process_id={i}"),
                f"--workdir={(workdir, below / 'x')[i]}",
                log=self.logs[i],
            )
            for i in range(2)
        ]

    @property
    def said(self):
        return [log.read_text() for log in self.logs]

    def ended(self):
        return [process.wait() for process in self.processes]

    def trained(self, step):
        """Waits until a row of that step is written."""
        while not any(row["step"] >= step for row in self.rows()):
            assert self.processes[0].poll() is None, self.said
            time.sleep(0.01)

    def rows(self):
        return Journal(self.workdir / "metrics.jsonl").rows()


@pytest.fixture(scope="module")
def calm(launcher, tmp_path_factory):
    two = Two(launcher, tmp_path_factory.mktemp("two") / "calm")
    assert two.ended() == [0, 0], two.said
    return two


def test_two_are_one(calm, launcher, tmp_path):
    one = tmp_path / "one"
    status, _, err = launcher(*FLAGS, f"--workdir={one}")
    assert status == 0, err
    states = []
    for workdir in (one, calm.workdir):
        with Checkpoints(workdir / "train" / "checkpoints") as checkpoints:
            states.append(checkpoints.newest()[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *states)
    rows = [
        Journal(workdir / "metrics.jsonl").rows() for workdir in (one, calm.workdir)
    ]
    for own, of_two in zip(*rows, strict=True):
        np.testing.assert_allclose(of_two["train/loss"], own["train/loss"], atol=1e-5)


def test_the_first_speaks_for_both(calm):
    first, second = calm.said
    assert "test accuracy" in first and "100/100" in first
    assert "Traceback" not in first + second
    assert "train" not in second
    result = json.loads((calm.workdir / "result.json").read_text())
    assert result["device"]["count"] == 2
    assert (calm.workdir / "figures" / "train_views.png").exists()


def test_killed_and_stopped_they_go_on(calm, launcher, tmp_path):
    """Whose second was killed, and then whose second was told to stop. And whose images
    were sent by both, each its own, and not gathered on the devices."""
    workdir, sent = tmp_path / "disturbed", "--config.data.placement=host"
    killed = Two(launcher, workdir, sent)
    killed.trained(10)
    killed.processes[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert killed.ended() == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    assert "process 0 of 2 has lost another" in killed.said[0]
    assert "Traceback" not in killed.said[0]

    stopped = Two(launcher, workdir, sent)
    stopped.trained(killed.rows()[-1]["step"] + 5)
    stopped.processes[1].send_signal(signal.SIGTERM)
    assert stopped.ended() == [0, 0], stopped.said
    assert "train resumes at step" in stopped.said[0]
    assert "stopped, and saved" in stopped.said[0]

    on = Two(launcher, workdir, sent)
    assert on.ended() == [0, 0], on.said
    differences = kill_resume.compare(calm.workdir, workdir)
    assert differences == ["result.json"]  # which has the config
    results = [
        json.loads((folder / "result.json").read_text())
        for folder in (calm.workdir, workdir)
    ]
    assert results[0]["test"] == results[1]["test"]


def test_a_refusal_is_both_s(calm, launcher):
    two = Two(launcher, calm.workdir, "--config.seed=1")
    assert two.ended() == [2, 2]
    for said in two.said:
        assert "belongs to another configuration" in said and "seed = 0" in said

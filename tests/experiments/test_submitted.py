"""Runs handed to a cluster, here by submitit's executor for one machine."""

import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from absl import flags

from experiments import jobs, submitted
from ssl_jax.errors import UserError

SAVES = """
import pathlib, signal, sys, time
path = pathlib.Path(sys.argv[1])
try:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path.write_text(path.read_text() + "began " if path.exists() else "began ")
    while path.read_text().count("began") < 2:
        time.sleep(0.01)
except KeyboardInterrupt:
    path.write_text(path.read_text() + "saved ")
"""


def test_a_command_trains_one_of_those_chosen():
    given = flags.FlagValues()
    jobs.define_flags(given)
    given(["x", "--seeds=0,1", "--only=byol", "--submitit=gpu", "--debug"])
    said = submitted.command("byol_cifar10", given, "2/6")
    assert said[:3] == [sys.executable, "-m", "experiments.papers.byol_cifar10"]
    again = flags.FlagValues()
    jobs.define_flags(again)
    assert again(["x", *said[3:]]) == ["x"]
    assert again.seeds == ["0", "1"] and again.only == ["byol"] and again.debug
    assert again.task == "2/6" and not again.submitit


def test_what_is_not_finished_is_queued(tmp_path, monkeypatch, capsys):
    given, queued = flags.FlagValues(), []
    jobs.define_flags(given)
    given(["x", "--submitit=gpu", "--submitit_hours=2"])

    def submit(folder, name, commands, **how):
        queued.extend(
            (command[-1], how["partition"], how["hours"]) for command in commands
        )
        return [SimpleNamespace(job_id="7_0"), SimpleNamespace(job_id="7_1")]

    monkeypatch.setattr(submitted, "submit", submit)
    names = ["byol-seed0", "", "byol-seed2"]
    submitted.queue("byol_cifar10", tmp_path, names, given)
    assert queued == [("--task=1/3", "gpu", 2), ("--task=3/3", "gpu", 2)]
    assert "byol-seed2: job 7_1" in capsys.readouterr().out
    given.task = "1/2"
    with pytest.raises(UserError, match="share out the runs twice"):
        submitted.queue("byol_cifar10", tmp_path, names, given)


@pytest.mark.skipif(bool(shutil.which("srun")), reason="there is a SLURM")
def test_without_a_cluster_it_says_so(tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match="--submitit=gpu: there is no SLURM here"):
        submitted.submit(tmp_path, "a", [["true"]], partition="gpu", hours=1)


def test_tasks_run_and_say_when_they_fail(tmp_path):
    pytest.importorskip("submitit")
    commands = [["touch", str(tmp_path / "done")], [sys.executable, "-c", "exit(3)"]]
    how = dict(partition="", hours=1, cluster="local")
    fine, failing = submitted.submit(tmp_path / "said", "a", commands, **how)
    fine.result()
    assert (tmp_path / "done").exists()
    assert "ended with status 3" in str(failing.exception())


def test_a_task_whose_time_is_up_saves_and_goes_on(tmp_path):
    pytest.importorskip("submitit")
    path = tmp_path / "said.txt"
    task = submitted.Task([sys.executable, "-c", SAVES, str(path)])
    thread = threading.Thread(target=task)
    thread.start()
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    task.process.send_signal(signal.SIGUSR2)  # submitit's, which is not for it
    delayed = task.checkpoint()
    thread.join()
    assert path.read_text() == "began saved "
    delayed.function()
    assert path.read_text() == "began saved began "

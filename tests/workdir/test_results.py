"""A table's file gives back what was put in; a result says the commit of its code."""

import copy
import json
import multiprocessing
import subprocess
from pathlib import Path

import pytest

from ssl_jax.errors import UserError
from ssl_jax.workdir import results


def result(seed, steps=10, **more):
    config = {"name": "a", "seed": seed, "train": {"steps": steps, "rate": 0.1}}
    versions = {"jax": "1.0"}
    return {"name": "a", "seed": seed, "config": config, "versions": versions, **more}


def test_what_was_put_in_is_given_back(tmp_path):
    path = tmp_path / "new/t.jsonl"
    assert results.read_table(path) == {}
    several = {"b": [result(0), result(2), result(10)], "a": [result(0, steps=20)]}
    given = copy.deepcopy(several)
    for run in several:
        for one in reversed(several[run]):
            results.add_to_table(path, run, one)
    assert several == given  # and not changed
    assert results.read_table(path) == given
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    # Two configurations and one set of versions, each before it is first named.
    named = [line["id"] for line in lines if "id" in line]
    assert len(lines) == 4 + 3 and len({*named}) == 3
    assert ["run" in line for line in lines] == [False] * 2 + [True, False] + [True] * 3
    assert lines[0] == {"id": lines[2]["config"], "config": lines[0]["config"]}
    assert "seed" not in lines[0]["config"]


def test_a_seed_that_runs_again_takes_the_others_place(tmp_path):
    path = tmp_path / "t.jsonl"
    for seed in (0, 1):
        results.add_to_table(path, "a", result(seed, accuracy=0.5))
    results.add_to_table(path, "b", result(0))
    before = path.stat().st_ino
    results.add_to_table(path, "a", result(1, accuracy=0.5))
    assert path.stat().st_ino == before  # nothing to write
    results.add_to_table(path, "a", result(1, accuracy=0.75, steps=20))
    assert results.read_table(path) == {
        "a": [result(0, accuracy=0.5), result(1, accuracy=0.75, steps=20)],
        "b": [result(0)],
    }
    results.add_to_table(path, "a", result(1, accuracy=0.5))
    assert '"steps": 20' not in path.read_text()  # as no run has it any more


def test_what_is_read_is_not_shared(tmp_path):
    path = tmp_path / "t.jsonl"
    for seed in (0, 1):
        results.add_to_table(path, "a", result(seed))
    one, other = results.read_table(path)["a"]
    one["config"]["train"]["steps"] = 7
    assert other == result(1)


def test_measurements_have_neither_seed_nor_configuration(tmp_path):
    path = tmp_path / "t.jsonl"
    cpu, gpu = {"seconds": [1.5], "versions": {"jax": "1"}}, {"seconds": [0.1]}
    whole = {"config": {"seed": 3}, "seeds": [{"seed": 3}, {"seed": 4}]}
    results.add_to_table(path, "cpu", {"seconds": [9.9]})
    for name, found in {"gpu": gpu, "all": whole, "cpu": cpu}.items():
        results.add_to_table(path, name, found)
    expected = {"all": [whole], "cpu": [cpu], "gpu": [gpu]}
    assert results.read_table(path) == expected


def test_a_broken_file_is_told(tmp_path):
    path = tmp_path / "t.jsonl"
    results.add_to_table(path, "a", result(0))
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole[1:]))
    with pytest.raises(UserError, match="t.jsonl has no config [0-9a-f]{8}; restore"):
        results.read_table(path)
    path.write_text("\n".join([*whole, "<<<<<<< ours"]))
    with pytest.raises(UserError, match="t.jsonl, line 4 is not JSON"):
        results.read([path])


def _add(path, seeds):
    for seed in seeds:
        results.add_to_table(path, "a", result(seed))


def test_processes_may_write_at_once(tmp_path):
    """The tasks of a SLURM array do."""
    path, context = tmp_path / "t.jsonl", multiprocessing.get_context("spawn")
    each = [range(task, 40, 2) for task in range(2)]
    tasks = [context.Process(target=_add, args=(path, seeds)) for seeds in each]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    seeds = [one["seed"] for one in results.read_table(path)["a"]]
    assert seeds == list(range(40))


def test_git_state(tmp_path, monkeypatch):
    def git(*words):
        given = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        done = subprocess.run(given, cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    state = results.git_state.__wrapped__  # anew at each call
    assert state(package) is None  # in no checkout
    git("init", "-q")
    assert state(package) is None  # it is not of that checkout
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert state(package) == {"commit": commit, "clean": True}
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as a hook has it
    assert state(package) == {"commit": commit, "clean": True}
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "other.py").write_text("")
    assert state(package) == {"commit": commit, "clean": False}
    (tmp_path / ".gitignore").write_text("other.py\n.gitignore\n")
    assert state(package)["clean"]
    (package / "__init__.py").write_text("a = 1\n")
    assert state(package) == {"commit": commit, "clean": False}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert state(package) is None  # no git


def test_git_state_is_of_the_package_and_not_of_where_it_runs(tmp_path, monkeypatch):
    here = results.git_state.__wrapped__(results.PACKAGE)
    monkeypatch.chdir(tmp_path)
    assert results.git_state.__wrapped__(results.PACKAGE) == here
    assert results.PACKAGE == Path(results.__file__).parents[1]
    # What the first call says stays, whatever changes as a run goes on.
    assert results.git_state() is results.git_state()

"""What experiments/same_numbers.py sees, on workdirs made by hand."""

import json
import subprocess

import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import same_numbers
from experiments.checkouts import worktree

TREE = {"step": np.int32(4), "params": {"w": np.array([0.5, np.nan, -2], np.float32)}}
ROW = {"phase": "train", "step": 4, "seconds": 1.0, "train/loss": 0.25}
RESULT = {
    "name": "toy",
    "config": {"seed": 0, "data": {"labels": "/a/labels.csv"}},
    "versions": {"jax": "1"},
    "phases": {"train": {"seconds": 1.5, "test": {"accuracy": 0.75}}},
}


@pytest.fixture
def two(tmp_path):
    """The folder of two equal runs."""
    for name in ("there", "here"):
        _write(tmp_path / name)
    return tmp_path


def _write(workdir, row=ROW, result=RESULT, tree=TREE, checksum="ab", step=4):
    (workdir / "train").mkdir(parents=True, exist_ok=True)
    (workdir / "metrics.jsonl").write_text(f'{{"step": 2}}\n{json.dumps(row)}\n')
    (workdir / "result.json").write_text(json.dumps(result, indent=1))
    np.savez(workdir / "train" / "pseudo_labels.npz", labels=np.arange(3))
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    with ocp.CheckpointManager(workdir / "train/checkpoints", options=options) as saved:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave({"state": tree}),
            checksum=ocp.args.JsonSave({"blake2b": checksum}),
        )
        saved.save(step, args=args, force=True)


def _said(two):
    return list(same_numbers.differences(two / "there", two / "here"))


def test_equal_runs_are_equal(two):
    assert _said(two) == []
    assert same_numbers.counted(two / "here") == "4 files, 3 arrays, 2 lines"


def test_times_versions_paths_and_new_fields_of_the_config_are_apart(two):
    result = json.loads(json.dumps(RESULT))
    result.update(versions={"jax": "2"}, git="1234567", command=["x"])
    result["config"].update(added=1, data={"labels": "/b/c/labels.csv"})
    result["phases"]["train"]["seconds"] = 2.5
    (two / "here/result.json").write_text(json.dumps(result))
    lines = f'{{"step": 2}}\n{json.dumps({**ROW, "seconds": 9.0})}\n'
    (two / "here/metrics.jsonl").write_text(lines)
    assert _said(two) == []


def test_a_flipped_bit_is_found(two, tmp_path):
    bits = TREE["params"]["w"].copy()
    bits.view(np.uint32)[1] ^= 1  # another NaN
    bits.view(np.uint32)[2] ^= 1
    tree = {**TREE, "params": {"w": bits}}
    _write(tmp_path / "flipped", tree=tree, checksum="cd")
    array, checksum = same_numbers.differences(two / "there", tmp_path / "flipped")
    assert array.startswith("train/checkpoints/4 state/params/w: 2 of 3 differ, the")
    assert "nan" in array
    assert checksum == "train/checkpoints/4 checksum: 'ab' there, 'cd' here"


def test_another_kind_of_array_and_another_name_are_found(two, tmp_path):
    half = {"step": np.int64(4), "params": {"v": TREE["params"]["w"]}}
    _write(tmp_path / "other", tree=half)
    assert list(same_numbers.differences(two / "there", tmp_path / "other")) == [
        "train/checkpoints/4 state/params/v is only here",
        "train/checkpoints/4 state/params/w is only there",
        "train/checkpoints/4 state/step: int32[] there, int64[] here",
    ]


def test_another_number_row_or_step_is_found(two, tmp_path):
    result = json.loads(json.dumps(RESULT))
    result["phases"]["train"]["test"]["accuracy"] = 0.7500000001
    result["config"]["seed"] = 1
    _write(tmp_path / "other", row={**ROW, "train/loss": 0.5}, result=result, step=5)
    assert list(same_numbers.differences(two / "there", tmp_path / "other")) == [
        "train/checkpoints/4 is only there",
        "train/checkpoints/5 is only here",
        "metrics.jsonl line 2.train/loss: 0.25 there, 0.5 here",
        "result.json .config.seed: 0 there, 1 here",
        "result.json .phases.train.test.accuracy: 0.75 there, 0.7500000001 here",
    ]
    (two / "here/metrics.jsonl").write_text('{"step": 2}\n')
    del result["phases"]["train"]["test"], result["config"]
    (two / "here/result.json").write_text(json.dumps(result))
    np.savez(two / "here/train/pseudo_labels.npz", labels=np.array([0, 2, 2]))
    (two / "here/train/done.json").write_text("{}")
    assert _said(two) == [
        "train/done.json is only here",
        "metrics.jsonl line 2 is only there",
        "result.json .config is only there",
        "result.json .phases.train.test is only there",
        "train/pseudo_labels.npz labels: 1 of 3 differ, the first np.int64(1) there, "
        "np.int64(2) here",
    ]


def test_a_checkout_takes_the_spelling_that_it_has(tmp_path):
    (tmp_path / "configs").mkdir()
    spellings = same_numbers.COMMANDS["flexmatch"].configs
    with pytest.raises(RuntimeError, match="none of configs/digits.py:flexmatch, "):
        same_numbers.spelling(spellings, tmp_path)
    (tmp_path / "configs/flexmatch_digits.py").touch()
    old = same_numbers.spelling(spellings, tmp_path)
    (tmp_path / "configs/digits.py").touch()
    new = same_numbers.spelling(spellings, tmp_path)
    assert (old, new) == ("configs/flexmatch_digits.py", "configs/digits.py:flexmatch")


def test_every_command_has_a_config_here():
    for command in same_numbers.COMMANDS.values():
        same_numbers.spelling(command.configs, same_numbers.ROOT)


def test_the_base_is_checked_out_and_removed(tmp_path):
    repository, folder = tmp_path / "repository", tmp_path / "base"
    git = ["git", "-C", repository, "-c", "user.name=a", "-c", "user.email=a@b.org"]
    repository.mkdir()
    for text in ("old", "new"):
        (repository / "file").write_text(text)
        for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", text]):
            subprocess.run([*git, *words], check=True)
    with worktree("HEAD~1", folder, repository) as checkout:
        assert (checkout / "file").read_text() == "old"
    listed = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True)
    assert not folder.exists() and str(folder) not in listed.stdout


def test_what_failed_is_told(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/byol_digits.py").touch()
    (tmp_path / "launch.py").write_text("raise SystemExit('no such thing')")
    monkeypatch.setattr(same_numbers, "QUICK", type("Flag", (), {"value": True}))
    with pytest.raises(RuntimeError, match="byol failed in .*\n.*no such thing"):
        same_numbers.train("byol", tmp_path, tmp_path / "w/byol")

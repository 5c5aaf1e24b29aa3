"""A run that goes on with more steps, or logged otherwise, and one that may not."""

import json
import shutil

import jax
import numpy as np
import pytest

import tiny
from configs import base, byol_digits
from ssl_jax.errors import UserError
from ssl_jax.report.figures import curves
from ssl_jax.train import extended, pictures, sections
from ssl_jax.train.run import run
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.workdir import Workdir

ONE = jax.devices()[:1]


def _config(**train):
    config = tiny.config("supervised.Supervised")
    config.model = base.model("mlp", features=(16,))
    config.train.optimizer.schedule = "constant"
    config.train.update(steps=4, unlabeled_ratio=0, **train)
    return config


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "of_phase", lambda *_: {})
        patch.setattr(pictures, "before", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Of 4 steps."""
    workdir = tmp_path_factory.mktemp("extended") / "short"
    run(_config(), workdir, devices=ONE)
    return workdir


def _left(workdir):
    """(parameters after 8 steps, rows without times)."""
    with Checkpoints(workdir / "train" / "checkpoints") as checkpoints:
        step, tree = checkpoints.newest()
    assert step == 8
    rows = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return tree["state"]["params"], rows


def test_more_steps_go_on_and_end_as_if_it_had_begun_with_them(short, tmp_path, capsys):
    longer = _config()
    longer.train.steps = 8
    whole = run(longer, tmp_path / "whole", devices=ONE)
    shutil.copytree(short, tmp_path / "extended")
    capsys.readouterr()
    result = run(longer, tmp_path / "extended", devices=ONE)
    assert "train resumes at step 4\n" in capsys.readouterr().err
    assert result["test"] == whole["test"]
    assert result["config"]["train"]["steps"] == result["phases"]["train"]["steps"] == 8
    (params, rows), (expected, expected_rows) = (
        _left(tmp_path / name) for name in ("extended", "whole")
    )
    assert rows == expected_rows
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    # Over, and refused what is less.
    assert run(longer, tmp_path / "extended", devices=ONE) == result
    with pytest.raises(UserError, match="8 there, 4 here: 8 are trained already"):
        run(_config(), tmp_path / "extended", devices=ONE)


def test_an_end_between_two_log_points_leaves_no_row_to_what_goes_on(tmp_path):
    """Or there would be one evaluation more than in a run that had begun so, in the
    median and for rules that count them, and the row after it of fewer steps."""
    longer = _config()
    longer.train.steps = 8
    whole = run(longer, tmp_path / "whole", devices=ONE)
    config = _config()
    config.train.steps = 3
    shorter = run(config, tmp_path / "extended", devices=ONE)
    assert shorter["test"]["evaluations"] == 2
    rows = Workdir(tmp_path / "extended").journal.rows()
    assert [row["step"] for row in rows] == [2, 3]
    # It is over, whatever was left to do behind its last checkpoint.
    (tmp_path / "extended/train/done.json").unlink()
    (tmp_path / "extended/result.json").unlink()
    assert run(config, tmp_path / "extended", devices=ONE)["test"] == shorter["test"]
    result = run(longer, tmp_path / "extended", devices=ONE)
    assert result["test"] == whole["test"]
    (params, rows), (expected, expected_rows) = (
        _left(tmp_path / name) for name in ("extended", "whole")
    )
    assert rows == expected_rows and [row["step"] for row in rows] == [2, 4, 6, 8]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_it_goes_on_logged_and_evaluated_more_often(short, tmp_path):
    shutil.copytree(short, tmp_path / "w")
    often = _config(log_every=1, eval_every=1, checkpoint_every=1)
    often.train.steps = 8
    run(often, tmp_path / "w", devices=ONE)
    _, rows = _left(tmp_path / "w")
    assert [row["step"] for row in rows] == [2, 4, 5, 6, 7, 8]
    assert all("test/accuracy" in row for row in rows)


def _verdicts(workdir, config):
    return extended.verdicts(sections.parse(config), Workdir(workdir))


def _began(workdir, config, **done):
    """A workdir in which each of the phases is over."""
    workdir.mkdir()
    saved = {"config": json.loads(json.dumps(config.to_dict())), "resumed": 0}
    (workdir / "config.json").write_text(json.dumps(saved))
    for name in config.phases:
        entry = {"steps": config[name].get("steps"), "stopped": "steps", **done}
        Workdir(workdir).phase(name).finish(entry)


def test_a_past_that_would_have_been_another_is_refused_with_why(tmp_path):
    """Cosine's rates are others already at step 2, and those of a constant rate that
    drops only after 97.5% of all steps."""
    for schedule, trained, said in (
        ("cosine_7_16", 1000, "'cosine_7_16' is stretched over all steps, so that the"),
        ("constant", 1000, ""),
        ("drops", 975, ""),
        ("drops", 976, "the 976 which are trained would have been others"),
    ):
        workdir = tmp_path / f"{schedule}{trained}"
        config = tiny.config("fixmatch.FixMatch")
        config.train.optimizer.schedule = schedule
        config.train.steps = 1000
        _began(workdir, config, steps=trained)
        config.train.steps = 1200
        verdicts = _verdicts(workdir, config)
        assert verdicts.keys() == {"train.steps"}
        assert (
            (said in verdicts["train.steps"])
            if said
            else verdicts == {"train.steps": ""}
        )
        if said:
            with pytest.raises(UserError) as error:
                run(config, workdir, devices=ONE)
            assert f"1000 there, 1200 here: {verdicts['train.steps']}" in str(
                error.value
            )
            assert f"start_from={workdir}/train" in str(error.value)
            assert (workdir / "train" / "done.json").exists()


def test_who_goes_by_all_steps_or_was_followed_does_not_go_on(tmp_path):
    config = tiny.config("pseudo_label.PseudoLabel")
    config.train.optimizer.schedule = "constant"
    _began(tmp_path / "a", config)
    config.train.steps = 6
    said = _verdicts(tmp_path / "a", config)["train.steps"]
    assert said.startswith("pseudo_label.PseudoLabel goes by the number of all steps")
    chain = byol_digits.get_config("debug")
    _began(tmp_path / "b", chain)
    chain.pretrain.steps = 6
    said = _verdicts(tmp_path / "b", chain)["pretrain.steps"]
    assert said == "probe began with what it was"
    seeds = _config()
    seeds.num_seeds = 2
    _began(tmp_path / "c", seeds)
    seeds.train.steps = 6
    said = _verdicts(tmp_path / "c", seeds)["train.steps"]
    assert said.startswith("seeds that are trained at once keep no network")


def test_a_rule_that_counts_evaluations_keeps_them(tmp_path):
    config = _config(patience=2)
    config.data.num_validation = 20
    _began(tmp_path / "w", config, steps=2, stopped="patience")
    config.train.update(eval_every=1, steps=8)
    said = _verdicts(tmp_path / "w", config)
    assert (
        said["train.eval_every"]
        == "patience, loss_patience, loss_window count evaluations"
    )
    assert said["train.steps"] == ""  # though it is over, by its rule
    config.train.eval_every = 2
    with Workdir.open(tmp_path / "w", config.to_dict(), verdicts=said):
        assert (tmp_path / "w" / "train" / "done.json").exists()

"""A whole search, on the smallest run: killed, gone on with, and never a test image."""

import json
import math

import jax
import numpy as np
import pytest

import tiny
from ssl_jax.core import make_mesh
from ssl_jax.data import sources
from ssl_jax.errors import UserError
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import phases, sections
from ssl_jax.train.program import compile_phase
from ssl_jax.train.run import run
from ssl_jax.tuning import bench, chain, learning_rate, paces, tune
from ssl_jax.tuning.bench import Bench, OutOfTime
from ssl_jax.tuning.budget import Budget
from ssl_jax.tuning.study import Study
from ssl_jax.workdir import logs, policy


class Untouched:
    """Test images and labels that nothing may look at."""

    def __getattribute__(self, name):
        raise AssertionError(f"{name} of a test set was looked at")

    __len__ = __getitem__ = __iter__ = __array__ = __getattribute__


def config(**changes):
    """LARS has no other optimizer in its place: one program."""
    given = tiny.config("supervised.Supervised").to_dict()
    changes = {
        "data.num_labels": 20,
        "train.steps": 18,
        "train.optimizer.name": "lars",
        "tune.minutes": 0.0,
        "tune.trials": 3,
        **changes,
    }
    return sections.changed(given, changes)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(learning_rate, "STEPS", 12)
    monkeypatch.setattr(learning_rate, "FEWEST", 4)
    monkeypatch.setattr("ssl_jax.tuning.batch_size._SECONDS", 0.01)


@pytest.fixture
def no_test(monkeypatch):
    read = sources.read

    def without(wanted):
        test = dict(test_images_MHWC=Untouched(), test_labels_M=Untouched())
        return read(wanted)._replace(**test)

    monkeypatch.setattr(sources, "read", without)


def test_a_search_killed_and_gone_on_with(tmp_path, quick, no_test, monkeypatch):
    path, said = tmp_path / "w", []
    monkeypatch.setattr(logs, "say", said.append)
    with pytest.raises(UserError, match="tune.minutes=0.0001 is too little"):
        tune.tune(config(**{"tune.minutes": 1e-4}), path)
    assert not path.exists()

    train = Bench.train

    def killed(self, values, stops, **how):
        if how.get("said", "").startswith("trial 0"):
            raise OutOfTime
        for judged in train(self, values, stops, **how):
            if how.get("said", "").startswith("trial 2"):
                raise KeyboardInterrupt
            yield judged

    monkeypatch.setattr(Bench, "train", killed)
    with pytest.raises(UserError, match="over before a trial of the config's own"):
        tune.tune(config(), path)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(config(), path)
    assert not (path / policy.FILE).exists()
    spent = Study(path, 0).known("spent")
    assert spent > 0

    monkeypatch.setattr(Bench, "train", train)
    found = tune.tune(config(), path)
    assert found.budget["seconds"] > spent and found.budget["tried"] == 3
    assert any("goes on after" in line for line in said)
    # Batch size and range test are not done again, and nor is the config's own trial
    # once it was done.
    for once in ("batch size", "range test", "trial 1: the config's own settings"):
        assert sum(f"tune: {once}" in line for line in said) == 1, once
    drawn = [line for line in said if " learning_rate.lars=" in line]
    assert [line.split(":")[1] for line in drawn] == [
        " trial 2",
        " trial 3",
        " trial 4",
    ]
    assert drawn[0].partition(" (")[0][14:] == drawn[1].partition(" (")[0][14:]

    assert policy.read(path / policy.FILE) == found
    assert found.shape == (8, 8, 1) and len(found.class_names) == 10
    assert found.settings.keys() == found.found.keys()
    assert {"train.steps", "train.optimizer.learning_rate"} <= found.settings.keys()
    assert not any("method" in how for how in found.found.values())  # it has its own
    before, after = found.validation["before"], found.validation["after"]
    assert after["accuracy"] >= before["accuracy"] and after["draws"] == 2
    assert found.validation["images"] == 10
    assert json.loads((path / "config.json").read_text())["config"]["name"]
    sections.parse(sections.changed(config(), found.settings))

    with pytest.raises(UserError, match="has a search in it.*give the run another"):
        run(config(), path)
    (path / policy.SEARCH).rename(path / "metrics.jsonl")
    with pytest.raises(UserError, match="has a run in it.*give the search another"):
        tune.tune(config(), path)
    (path / "metrics.jsonl").rename(path / policy.SEARCH)
    with pytest.raises(UserError, match="began with tune.held_out=0.25"):
        tune.tune(config(**{"tune.held_out": 0.5, "tune.trials": 4}), path)


def test_a_trial_trains_as_the_run_does(quick):
    """Though its numbers and learning rates are given to the program at each call; and
    another number is no other program."""
    given = tiny.config("fixmatch.FixMatch", weak_gradient=False).to_dict()
    given = sections.changed(
        given,
        {
            "data.num_labels": 20,
            "train.augment.strong": "none",
            "train.augment.weak": "none",
            "train.steps": 6,
            "train.optimizer.warmup_steps": 2,
        },
    )
    changes = {
        "algorithm.threshold": 0.0,
        "algorithm.unlabeled_weight": 2.0,
        "optimizer.learning_rate": 0.1,
        "optimizer.weight_decay": 0.01,
        "model.dropout": 0.2,
    }
    mesh = make_mesh(jax.devices()[:1])
    data = tiny.load(tiny.config("fixmatch.FixMatch"), mesh)
    with jax.set_mesh(mesh):
        tried = Bench(given, "train", data, mesh, 0.25)
        others = {"algorithm.threshold": 1.0, "augment.strength": 0.5}
        others |= {"model.dropout": 0.0}
        (other,) = tried.train({**changes, **others}, (6,))
        (judged,) = tried.train(changes, (6,))
        assert tried.programs == 1 and other.loss != judged.loss

        run, section = tried.changed(changes)
        phase = phases.build(run, section, tried.data(), mesh)
        state, sums, call, _ = compile_phase(phase)
        for item in phase.feed.items(0, 6):
            state, sums = call(state, sums, phase.feed.arrays, item)
        evaluate = compile_evaluation(phase.algorithm, phase.rows, phase.key).sums
        scores, _ = evaluate(state, tried.data().eval_sets["val"])
    wanted = logs.computed(jax.device_get(scores))
    assert judged.loss == pytest.approx(float(wanted["loss"]), rel=1e-5)
    assert judged.accuracy == pytest.approx(float(wanted["accuracy"]))


@pytest.mark.parametrize("minutes, refused", [(10.0, False), (0.5, True)])
def test_a_budget_too_small_for_a_trial(minutes, refused):
    run = sections.parse(config())
    (section,) = chain.of(run)
    budget = Budget(60 * minutes, time=lambda: 25.0, began=0.0)  # it took to compile
    pace = paces.Pace(steps_per_second=4.0, compile_seconds=20.0)
    if not refused:
        assert paces.trial_steps(section, budget, pace, begun=False) == 18
        return
    with pytest.raises(UserError, match="to compile it took 20 s here.*minutes=1.1 or"):
        paces.trial_steps(section, budget, pace, begun=False)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tune.minutes": 0.0, "tune.trials": 0}, "set no end to --mode=tune"),
        ({"tune.minutes": -1.0}, "tune.minutes=-1.0 must be at least 0"),
        ({"tune.held_out": 1.0}, "tune.held_out=1.0 must be in"),
        ({"tune.methods": ("fixmach",)}, "'fixmach'; did you mean 'fixmatch'"),
        ({"num_seeds": 2}, "num_seeds"),
        ({"train.labels_from": "train"}, "labels_from"),
    ],
)
def test_what_cannot_be_tuned_is_refused(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        tune.tune(config(**changes), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_so_are_methods_without_labeled_batches(tmp_path):
    given = tiny.config("byol.BYOL").to_dict()
    with pytest.raises(UserError, match="train a classifier on labeled batches"):
        tune.tune(given, tmp_path / "w")


def test_a_loss_that_is_not_finite_is_the_worst_there_is():
    from ssl_jax.core.metrics import mean

    scores = {"accuracy": mean(np.ones(2)), "loss": mean(np.array([1.0, np.nan]))}
    found = bench._judged(scores, 3, 1.0)
    assert found.accuracy == 0.0 and math.isinf(found.loss)

"""Many seeds in one program are what one run after the other is, up to rounding."""

import json

import jax
import numpy as np
import pytest

import tiny
from configs import base, gcn_cora
from ssl_jax import algorithms, core
from ssl_jax.cli import modes
from ssl_jax.errors import UserError
from ssl_jax.report.figures import curves
from ssl_jax.train import many_seeds, pictures, sections
from ssl_jax.workdir.journal import Journal

ONE = jax.devices()[:1]
SEEDS = 2


def _mlp():
    """Labels, weights, batches and views differ from seed to seed."""
    config = tiny.config("supervised.Supervised")
    config.model = base.model("mlp", features=(16,))
    config.train.update(steps=4, log_every=2, eval_every=2, checkpoint_every=4)
    return config


def _gcn():
    """Stops early, each seed at its own step."""
    config = gcn_cora.get_config("debug")
    config.data.update(num_labels=20, num_validation=200)
    config.train.optimizer.learning_rate = 0.2
    config.train.update(steps=30, eval_every=1, log_every=1, loss_window=2)
    config.train.checkpoint_every = 30
    return config


@pytest.mark.parametrize("config", [_mlp(), _gcn()], ids=["mlp", "gcn"])
def test_they_equal_separate_runs(config, tmp_path, monkeypatch):
    """To 1e-4: vmapped products round otherwise."""
    # Figures of the separate runs.
    monkeypatch.setattr(curves, "of_phase", lambda *_: {})
    monkeypatch.setattr(pictures, "before", lambda *_: {})
    config.num_seeds = SEEDS
    result = modes.run(config, tmp_path / "all", ONE)
    rows = Journal(tmp_path / "all" / "metrics.jsonl").rows()
    config.num_seeds, steps = 1, set()
    for seed in range(SEEDS):
        config.seed = seed
        alone = modes.run(config, tmp_path / str(seed), ONE)
        together = result["seeds"][seed]
        assert together["seed"] == seed
        expected = Journal(tmp_path / str(seed) / "metrics.jsonl").rows()
        given = [row for row in rows if row["seed"] == seed]
        assert [row["step"] for row in given] == [row["step"] for row in expected]
        for one, other in zip(given, expected, strict=True):
            for name in ("train/loss", "test/accuracy", "test/loss"):
                np.testing.assert_allclose(one[name], other[name], rtol=1e-4)
        entry = alone["phases"]["train"]
        assert together["phases"]["train"]["stopped"] == entry["stopped"]
        np.testing.assert_allclose(
            together["test"]["accuracy"], alone["test"]["accuracy"], rtol=1e-6
        )
        steps.add(entry["steps"])
    if config.train.loss_window:
        assert len(steps) == SEEDS and max(steps) < config.train.steps
    accuracies = [one["test"]["accuracy"] for one in result["seeds"]]
    assert result["test"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert result["test"]["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    written = json.loads((tmp_path / "all" / "result.json").read_text())
    assert written == result
    assert (tmp_path / "all" / "figures" / "train_seeds.png").exists()
    config.update(seed=0, num_seeds=SEEDS)
    figures = tmp_path / "all" / "figures"
    (figures / "train_seeds.png").rename(figures / "train_seeds.failed.txt")
    assert many_seeds.run(config, tmp_path / "all", ONE) == written  # not again
    assert [path.name for path in figures.iterdir()] == ["train_seeds.png"]


def test_of_seeds_that_stop_apart_the_fewest_evaluations_are_told():
    """And not the first one's, beside the means of all."""

    def entry(evaluations):
        test = {"accuracy": 0.5 + evaluations / 10, "evaluations": evaluations}
        done = {"steps": 2 * evaluations, "stopped": "loss_window", "val": {}}
        return done | {"test": test}

    wanted = sections.parse(_mlp())
    entries = {0: entry(3), 1: entry(1)}
    result = many_seeds._result(wanted, {}, {}, entries, 0)
    assert result["test"]["evaluations"] == 1
    assert result["test"]["accuracy"] == pytest.approx(0.7)
    assert [one["test"]["evaluations"] for one in result["seeds"]] == [3, 1]


@pytest.mark.parametrize("word", algorithms.names())
def test_every_method_is_trained_at_once_and_its_rows_are_written(word):
    """Traced, not compiled; of metrics that are all ones. A metric may be a vector, or
    have counted nothing."""
    config = tiny.config(algorithms.method(word))
    if config.train.augment.get("name") == "multi_crop":  # of several sizes
        config.model = base.model("convnet", filters=(8,))
    elif config.model.name not in ("gcn", "vit"):  # MAE hides a ViT's patches
        config.model = base.model("mlp", features=(8,))
    config.num_seeds = SEEDS
    config.train.update(steps=2, log_every=1, eval_every=1, checkpoint_every=1)
    if config.train.augment.get("name") == "weak_strong":  # quicker to trace
        config.train.augment.strong = "none"
    wanted, mesh = sections.parse(config), core.make_mesh(ONE)
    phase, inputs, axes = many_seeds._build(
        wanted, wanted.data, tiny.load(config, mesh), mesh
    )
    with jax.set_mesh(mesh):
        train = many_seeds._at_once(
            lambda *args: many_seeds._train(phase, many_seeds.Inputs(*args)), axes
        )
        kept_SE, evaluations_S = jax.eval_shape(train, *inputs)
    assert evaluations_S.shape == (SEEDS,)
    ones_E = jax.tree.map(lambda leaf: np.ones(leaf.shape[1:], leaf.dtype), kept_SE)
    first, second = many_seeds._rows(phase, ones_E, 2)
    assert (first["step"], second["step"]) == (1, 2)
    assert any(key.startswith("train/") for key in first)
    json.dumps(first, allow_nan=False)
    if "train/kept_per_class" in first:
        assert first["train/kept_per_class"] == [1.0] * 10
        assert len(first["train/reliability"]) == 15


def test_what_cannot_be_trained_at_once_is_refused(tmp_path):
    def refused(match, **changes):
        config = tiny.config("supervised.Supervised")
        config.num_seeds = 2
        with config.unlocked():
            config.update(changes)
        with pytest.raises(UserError, match=match):
            many_seeds.run(config, tmp_path / "w", ONE)
        assert not (tmp_path / "w").exists()

    refused("convolutional network is slower on a CPU")
    refused("needs the images on the device", data=dict(placement="host"))
    refused(r"multiple of train\.eval_every=3", train=dict(eval_every=3))
    refused("start_from='scratch'", query=dict(rounds=2))

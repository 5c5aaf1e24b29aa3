"""Noisy student's loss on soft, hard and granted labels."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree

import tiny
from configs import base
from ssl_jax.core import forward

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def built():
    """The algorithm without augmentation, its state, and a batch with soft labels."""
    config = tiny.config("noisy_student.NoisyStudent")
    config.model = base.model("mlp", features=(16,))  # compiles sooner
    config.train.unlabeled_ratio = 0
    config.train.augment.update(weak="none", strong="none")
    phase = tiny.build(config)
    rng = np.random.default_rng(0)
    probs_BK = rng.dirichlet(np.ones(10), size=8).astype(np.float32)
    batch = {
        "image": rng.integers(0, 256, (8, 8, 8, 1)).astype(np.uint8),
        "label": probs_BK.argmax(-1).astype(np.int32),
        "label_probs": probs_BK,
    }
    state = phase.algorithm.init(KEY, batch)
    return phase.algorithm, state, batch


def _loss(algorithm, state, batch):
    return float(algorithm.train_step(state, batch, KEY)[1]["loss"].compute())


def _worked(algorithm, state, batch, target_BK):
    """-mean_b sum_k t_k log p_k of the network in training, in float64."""
    x_BHWC = batch["image"] / 127.5 - 1
    logits_BK, _ = forward(
        algorithm.model,
        state.params,
        state.model_state,
        x_BHWC.astype(np.float32),
        train=True,
    )
    logits_BK = np.asarray(logits_BK, np.float64)
    log_z_B1 = np.log(np.exp(logits_BK).sum(-1, keepdims=True))
    return -(target_BK * (logits_BK - log_z_B1)).sum(-1).mean()


def test_the_loss_is_cross_entropy_with_the_soft_labels(built):
    algorithm, state, batch = built
    soft, one_hot = batch["label_probs"], np.eye(10)[batch["label"]]
    expected = _worked(algorithm, state, batch, soft)
    assert _loss(algorithm, state, batch) == pytest.approx(expected, abs=1e-5)
    expected_hard = _worked(algorithm, state, batch, one_hot)
    assert abs(expected_hard - expected) > 0.01
    hard = algorithm.__class__(**{**vars(algorithm), "hard": True})
    granted = {name: batch[name] for name in ("image", "label")}
    for loss in (_loss(hard, state, batch), _loss(algorithm, state, granted)):
        assert loss == pytest.approx(expected_hard, abs=1e-5)


def test_it_trains_on_the_strong_view_and_is_heard_by_its_average(built):
    algorithm, state, batch = built
    seen = []

    def strong(key, images, rates=None):
        seen.append(rates)
        return algorithm.views.plain(jnp.zeros_like(images))

    views = algorithm.views._replace(strong=strong, weak=None)
    noisy = algorithm.__class__(**{**vars(algorithm), "views": views})
    after, _ = noisy.train_step(state, batch, KEY)
    assert len(seen) == 1
    gray = {**batch, "image": np.zeros_like(batch["image"])}
    expected, _ = algorithm.train_step(state, gray, KEY)
    tree.map(np.testing.assert_array_equal, after.params, expected.params)
    tree.map(
        lambda average, old, new: np.testing.assert_allclose(
            average, 0.1 * old + 0.9 * new, atol=1e-6
        ),
        after.extra["ema"],
        state.params,
        after.params,
    )
    judged = algorithm.predict(after, batch)
    x_BHWC = algorithm.views.plain(batch["image"])
    teacher = (after.extra["ema"], after.model_state)
    average, _ = forward(algorithm.model, *teacher, x_BHWC, train=False)
    np.testing.assert_array_equal(judged, average)


@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_configs_are_a_teacher_and_two_rounds(data):
    get_config = importlib.import_module(f"configs.{data}").get_config
    config = get_config("noisy_student")
    assert config.phases == ("teacher", "student1", "student2")
    froms = [config[phase].labels_from for phase in config.phases]
    assert froms == ["", "teacher", "student1"]
    if data == "digits":
        other = get_config()
        for phase in config.phases:
            assert config[phase].optimizer == other.train.optimizer
            assert config[phase].augment == other.train.augment
            assert config[phase].steps == other.train.steps

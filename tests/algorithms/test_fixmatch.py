"""FixMatch against its paper: the loss by hand, the batch, the teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tiny
import toy
from configs import cifar10, stl10
from ssl_jax import core
from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets
from ssl_jax.augment.weak_strong import WeakStrong


def _fixmatch(**fields):
    views = WeakStrong(
        plain=lambda x: x,
        weak=lambda _, x: x,
        strong=lambda _, x, rates: x[..., ::-1],
    )
    fields = {"model": toy.Pixels(), **fields}
    return FixMatch(tx=optax.sgd(0.1), views=views, **fields)


LABELED_BK = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
WEAK_UK = np.array([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 5.0]], np.float32)
BATCH = toy.batch(LABELED_BK, [0, 0], WEAK_UK)


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("weak_gradient", [True, False])
def test_loss_is_the_papers_by_hand(weak_gradient):
    algorithm = _fixmatch(
        threshold=0.9, unlabeled_weight=0.5, weak_gradient=weak_gradient
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    state, metrics = algorithm.train_step(state, BATCH, jax.random.key(1))
    # eq. 3: the labels are 0, 0
    labeled = -(_log_softmax(LABELED_BK)[:, 0]).mean()
    # Sure enough at 0.9: softmax(4, 0) = .982 and (0, 5) = .993; not (0, 2) = .881.
    # eq. 4: the strong view's logits are swapped; the mean is over all four.
    strong_UK = WEAK_UK[:, ::-1]
    kept = -_log_softmax(strong_UK)[0, 0] - _log_softmax(strong_UK)[3, 1]
    unlabeled = kept / 4
    means = {
        name: float(metrics[name].compute())
        for name in metrics.keys() & {"loss", "labeled_loss", "unlabeled_loss"}
    }
    assert means["labeled_loss"] == pytest.approx(labeled)
    assert means["unlabeled_loss"] == pytest.approx(unlabeled)
    assert means["loss"] == pytest.approx(labeled + 0.5 * unlabeled)
    assert float(metrics["share_kept"].compute()) == 0.5
    # Of the one kept whose truth is known, and of the two rejected.
    assert float(metrics["kept_accuracy"].compute()) == 1
    assert float(metrics["rejected_accuracy"].compute()) == 0.5
    np.testing.assert_array_equal(metrics["kept_per_class"].compute(), [1, 1])


def test_threshold_is_inclusive():
    edge = float(jax.nn.softmax(jnp.array([2.0, 0.0]))[0])
    batch = {**BATCH, "unlabeled_image": jnp.tile(jnp.array([2.0, 0.0]), (4, 1, 1, 1))}
    algorithm = _fixmatch(threshold=edge)
    state = algorithm.init(jax.random.key(0), batch)
    _, metrics = algorithm.train_step(state, batch, jax.random.key(1))
    assert float(metrics["share_kept"].compute()) == 1


def test_pseudo_labels_have_no_gradient():
    """d loss / d weight by hand: only through labeled and strong logits."""
    algorithm = _fixmatch(threshold=0.0)
    state = algorithm.init(jax.random.key(0), BATCH)
    after, _ = algorithm.train_step(state, BATCH, jax.random.key(1))

    def loss(weight):
        labels_U = WEAK_UK.argmax(-1)  # constants
        strong_UK = _log(weight * WEAK_UK[:, ::-1])
        unlabeled = -strong_UK[jnp.arange(4), labels_U].mean()
        return -_log(weight * LABELED_BK)[:, 0].mean() + unlabeled

    def _log(logits):
        return jax.nn.log_softmax(logits)

    expected = 1 - 0.1 * jax.grad(loss)(1.0)
    assert float(after.params["weight"]) == pytest.approx(float(expected), rel=1e-5)


class _Regularized(FixMatch):
    """Soft targets and weights of what it sees, which it keeps; and a regularizer."""

    def init_thresholds(self):
        seen = Seen(jnp.int32(-1), *(jnp.zeros((n, 2)) for n in (2, 1, 4, 1)))
        return {"seen": seen._replace(loss_B=jnp.zeros(2), index_U=jnp.arange(4))}

    def targets(self, thresholds, seen):
        given = Targets(seen.weak_UK, seen.weak_UK[:, 0], seen.weak_UK, jnp.ones(2))
        return given, {"seen": seen}

    def regularizer(self, strong_UK, targets, thresholds):
        return 3 * (strong_UK**2).mean() * thresholds["seen"].loss_B[0]


@pytest.mark.parametrize("weak_gradient", [True, False])
def test_a_threshold_sees_constants_and_a_regularizer_is_learned(weak_gradient):
    algorithm = _Regularized(
        **vars(_fixmatch(unlabeled_weight=0.5, weak_gradient=weak_gradient))
    )
    batch = {**BATCH, "unlabeled_index": jnp.array([5, 2, 9, 0])}
    state = algorithm.init(jax.random.key(0), batch).replace(step=jnp.int32(7))
    step = jax.jit(algorithm.train_step)
    after, metrics = step(state, batch, jax.random.key(1))
    seen = after.extra["thresholds"]["seen"]
    labeled_BK, weak_UK = toy.softmax(LABELED_BK), toy.softmax(WEAK_UK)
    loss_B = -np.log(labeled_BK[:, 0])
    expected = Seen(7, labeled_BK, loss_B, weak_UK, [5, 2, 9, 0])
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)

    def loss(params):
        labeled = np.log(toy.softmax(params["weight"] * LABELED_BK))[:, 0]
        strong_UK = params["weight"] * WEAK_UK[:, ::-1]
        loss_U = -(weak_UK * np.log(toy.softmax(strong_UK))).sum(1)
        regularizer = 3 * (strong_UK**2).mean() * loss_B[0]
        return -labeled.mean() + 0.5 * (loss_U * weak_UK[:, 0]).mean() + regularizer

    params = {"weight": np.float64(1)}
    assert float(metrics["loss"].compute()) == pytest.approx(loss(params), rel=1e-5)
    moved = toy.descended(loss, params, 0.1)["weight"]
    assert float(after.params["weight"]) == pytest.approx(float(moved), rel=1e-5)


@pytest.mark.parametrize(("weak_gradient", "passes"), [(True, 10), (False, 4_06)])
def test_one_pass_over_all_views_or_the_weak_ones_apart(weak_gradient, passes):
    """`seen`: BatchNorm would see one batch of 2 + 4 + 4, or 4 and then 6."""
    algorithm = _fixmatch(weak_gradient=weak_gradient)
    state = algorithm.init(jax.random.key(0), BATCH)
    after, _ = algorithm.train_step(state, BATCH, jax.random.key(0))
    assert int(after.model_state["batch_stats"]["seen"]) == passes


@pytest.mark.parametrize(
    ("warmup", "decays"), [(True, [0.1, 2 / 11, 0.2]), (False, [0.2, 0.2, 0.2])]
)
def test_teacher_averages_parameters_and_has_the_networks_moments(warmup, decays):
    """The decay rises as (1 + t) / (10 + t), or is one. BatchNorm's moments are running
    averages already: averaged twice they would be those of an older network."""
    algorithm = _fixmatch(model=toy.Normalised(), ema_decay=0.2, ema_warmup=warmup)
    states, step = [algorithm.init(jax.random.key(0), BATCH)], algorithm.train_step
    for i in range(3):
        states.append(step(states[-1], BATCH, jax.random.key(i))[0])
    teacher = states[0].params
    for decay, state in zip(decays, states[1:], strict=True):
        teacher = jax.tree.map(
            lambda t, m, d=decay: d * t + (1 - d) * m, teacher, state.params
        )
    last = states[-1]
    jax.tree.map(np.testing.assert_array_almost_equal, last.extra["ema"], teacher)
    variables = {"params": last.extra["ema"], **last.model_state}
    expected = toy.Normalised().apply(variables, BATCH["image"], train=False)
    np.testing.assert_array_equal(algorithm.predict(last, BATCH), expected)


def test_cifar10_is_the_papers_recipe():
    config = cifar10.get_config().to_dict()
    assert config["train"]["batch_size"] == 64 and config["train"]["steps"] == 2**20
    assert config["train"]["unlabeled_ratio"] == 7  # 448 weak and 448 strong
    assert config["train"]["algorithm"] == {
        "name": "fixmatch.FixMatch",
        "threshold": 0.95,
        "unlabeled_weight": 1.0,
        "ema_decay": 0.999,
        "ema_warmup": False,
        "weak_gradient": True,
    }
    assert not config["model"]["bn_warmup"]
    assert config["train"]["optimizer"]["momentum"] == 0.9
    assert config["train"]["optimizer"]["nesterov"]
    assert config["train"]["augment"]["mean"] == (127.5,)  # x * 2 / 255 - 1
    torchssl = cifar10.get_config("torchssl").train.augment
    assert torchssl.strong == "randaugment_torchssl"
    assert torchssl.mean == (125.3, 123.0, 113.9)


@pytest.mark.parametrize(
    ("words", "shift"),
    [("", 12), ("cta", 12), ("torchssl", 4), ("torchssl,flexmatch", 4)],
)
def test_stl10_shifts_as_the_code_that_it_is_of(words, shift):
    assert stl10.get_config(words).train.augment.shift == shift


def test_batch_is_64_labeled_and_448_distinct_unlabeled():
    config = tiny.config()
    config.train.update(batch_size=64, unlabeled_ratio=7)
    phase = tiny.build(config)
    item = jax.tree.map(lambda leaf: leaf[0], next(phase.feed.items(0, 1)))
    batch = phase.feed.batch(phase.feed.arrays, item)
    assert batch["image"].shape == (64, 8, 8, 1)
    assert batch["unlabeled_image"].shape == (448, 8, 8, 1)
    assert len(set(np.asarray(batch["unlabeled_index"]).tolist())) == 448
    counts = np.bincount(batch["label"], minlength=10)
    assert counts.sum() == 64 and counts.min() >= 4  # 20 labels, three times and a bit


def test_ema_is_the_formula():
    ours = core.ema({"a": jnp.array(1.0)}, {"a": jnp.array(3.0)}, 0.9)
    assert float(ours["a"]) == pytest.approx(1.2)


def test_a_rising_decay_forgets_the_start():
    """After t moves 9! t! / (t + 9)! of it is left; a decay of 0.999 leaves 0.98."""
    left, fixed = 1.0, 1.0
    for count in range(20):
        left = core.ema(left, 0.0, core.rising(0.999, count))
        fixed = core.ema(fixed, 0.0, 0.999)
    assert float(left) == pytest.approx(9.985e-8, rel=1e-3)
    assert float(fixed) == pytest.approx(0.98, abs=1e-3)
    assert float(core.rising(0.999, 10**6)) == np.float32(0.999)
    assert float(core.rising(0.0, 5)) == 0

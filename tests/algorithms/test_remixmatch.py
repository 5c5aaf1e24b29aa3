"""ReMixMatch against plain NumPy: alignment, rotation, memory, and the loss by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from configs import cifar10, stl10
from ssl_jax.algorithms import remixmatch
from ssl_jax.algorithms.remixmatch import MEMORY, ReMixMatch
from ssl_jax.algorithms.shared import mixup
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import losses
from ssl_jax.errors import UserError
from ssl_jax.models import Classifier

KEY = jax.random.key(0)


def test_alignment_is_the_papers():
    rng = np.random.default_rng(0)
    probs_UK = rng.dirichlet(np.full(10, 0.3), size=50)
    labeled_K, unlabeled_K = rng.dirichlet(np.ones(10), size=2)
    expected = []
    for row in probs_UK.tolist():
        # 1e-6 as in google-research/remixmatch
        pairs = zip(labeled_K, unlabeled_K, strict=True)
        ratios = [(p + 1e-6) / (q + 1e-6) for p, q in pairs]
        scaled = [q * ratio for q, ratio in zip(row, ratios, strict=True)]
        expected.append([q / sum(scaled) for q in scaled])
    arrays = (jnp.asarray(x, jnp.float32) for x in (probs_UK, labeled_K, unlabeled_K))
    np.testing.assert_allclose(losses.align(*arrays), expected, atol=1e-6)


def test_rotation_is_numpys_and_every_turn_comes_up():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 5, 5, 2)).astype(np.float32)
    rotated, turns = jax.jit(remixmatch.rotate)(KEY, images)
    for image, ours, turn in zip(images, rotated, turns.tolist(), strict=True):
        np.testing.assert_array_equal(ours, np.rot90(image, turn))
    assert (np.bincount(turns) > 30).all() and turns.max() == 3


def test_images_that_are_not_square_are_named():
    with pytest.raises(UserError, match="need square images, not 5x6"):
        remixmatch.rotate(KEY, jnp.zeros((4, 5, 6, 1)))


RNG = np.random.default_rng(0)
B, U, K = 2, 4, 3
BATCH = {
    "image": jnp.asarray(RNG.normal(size=(B, 2, 2, 1)), jnp.float32),
    "label": jnp.array([0, 2]),
    "unlabeled_image": jnp.asarray(RNG.normal(size=(U, 2, 2, 1)), jnp.float32),
    "unlabeled_label": jnp.array([0, 1, 2, -1]),
    "unlabeled_index": jnp.arange(U),
}


def _remixmatch(**fields):
    """The weak view is the image; a strong one is a random multiple of it."""

    def strong(key, images, rates=None, cutout=True):
        assert not cutout  # of CTAugment, on labeled images and on unlabeled ones
        return images * jax.random.normal(key, images.shape[:1])[:, None, None, None]

    views = WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=strong)
    model = Classifier(toy.Pixels(), K)
    return ReMixMatch(model=model, tx=optax.sgd(0.1), views=views, **fields)


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_loss_is_the_papers_by_hand(monkeypatch):
    """The views, pairs and rotations as drawn; all that follows by hand, in float64."""
    algorithm = _remixmatch(rampup_steps=4)
    marginals = {
        name: jnp.asarray(RNG.dirichlet(np.ones(K), MEMORY), jnp.float32)
        for name in ("labeled", "unlabeled")
    }

    @jax.jit
    def one_step(batch, key):
        mixups = toy.spied(monkeypatch, mixup, "mixup")
        rotations = toy.spied(monkeypatch, remixmatch, "rotate")
        before = algorithm.init(KEY, batch).replace(step=jnp.int32(3))
        before = before.replace(extra={**before.extra, "marginals": marginals})
        return before, *algorithm.train_step(before, batch, key), mixups, rotations

    before, after, metrics, mixups, rotations = jax.tree.map(
        lambda x: (
            np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
        ),
        one_step(BATCH, KEY),
    )
    [((_, images, target, alpha), (mixed_images, mixed_target))] = mixups
    [((_, strong), (rotated, turns))] = rotations
    params = before.params

    def logits(x, head):
        x = x.reshape(-1, 4) * params["encoder"]["weight"]
        return x @ params[head]["kernel"] + params[head]["bias"]

    # Rows: strong labeled, then two images each of weak, strong, strong again.
    assert images.shape == (B, 1 + 3 * 2, 2, 2, 1) and alpha == 0.75
    views = images[:, 1:].reshape(B, 3, 2, 4).swapaxes(0, 1).reshape(3, U, 4)
    unlabeled = np.asarray(BATCH["unlabeled_image"]).reshape(U, 4)
    np.testing.assert_array_equal(views[0], unlabeled)
    np.testing.assert_array_equal(views[1], strong.reshape(U, 4))
    assert len(np.unique((views[1:] / unlabeled).round(4))) == 2 * U
    assert not np.allclose(images[:, 0], BATCH["image"])

    # The guess of the weak view, aligned and sharpened with T = 1/2, is every view's.
    probs = np.exp(_log_softmax(logits(unlabeled, "head")))
    means = {name: np.float64(m).mean(0) for name, m in marginals.items()}
    guess = probs * (means["labeled"] + 1e-6) / (means["unlabeled"] + 1e-6)
    guess = guess**2 / (guess**2).sum(-1, keepdims=True)
    for i in range(3):
        here = target[:, 1 + 2 * i : 3 + 2 * i].reshape(U, K)
        np.testing.assert_allclose(here, guess, atol=1e-6)
    np.testing.assert_array_equal(target[:, 0], np.eye(K)[BATCH["label"]])

    log_probs = _log_softmax(logits(mixed_images, "head")).reshape(B, 7, K)
    loss_BG = -(mixed_target * log_probs).sum(-1)
    turned = _log_softmax(logits(rotated, "rotation_head"))
    expected = {
        "labeled_loss": loss_BG[:, 0].mean(),
        "unlabeled_loss": loss_BG[:, 1:].mean(),
        "strong_loss": -(guess * _log_softmax(logits(strong, "head"))).sum(-1).mean(),
        "rotation_loss": -turned[np.arange(U), turns].mean(),
        "rotation_accuracy": (turned.argmax(-1) == turns).mean(),
    }
    expected["loss"] = (
        expected["labeled_loss"]
        + 3 / 4 * 1.5 * expected["unlabeled_loss"]
        + 3 / 4 * 0.5 * expected["strong_loss"]
        + 0.5 * expected["rotation_loss"]
    )
    for name, value in expected.items():
        assert float(metrics[name].compute()) == pytest.approx(
            float(value), rel=1e-5
        ), name

    # Only the mixed images move statistics.
    assert after.model_state["batch_stats"]["encoder"]["seen"] == B * 7
    # This step's means go into memory after it has used what was there.
    moved = after.extra["marginals"]
    np.testing.assert_allclose(moved["labeled"][3], [0.5, 0, 0.5])
    np.testing.assert_allclose(moved["unlabeled"][3], probs.mean(0), atol=1e-6)
    rest = np.arange(MEMORY) != 3
    for name in marginals:
        np.testing.assert_array_equal(
            moved[name][rest], np.float64(marginals[name])[rest]
        )


def test_memory_begins_uniform_and_wraps_around():
    algorithm = _remixmatch()
    state = jax.jit(algorithm.init)(KEY, BATCH)
    for buffer in state.extra["marginals"].values():
        np.testing.assert_allclose(buffer, np.full((MEMORY, K), 1 / K))
    state = state.replace(step=jnp.int32(MEMORY + 5))
    after, _ = jax.jit(algorithm.train_step)(state, BATCH, KEY)
    changed = after.extra["marginals"]["labeled"] != state.extra["marginals"]["labeled"]
    assert np.flatnonzero(changed.any(1)).tolist() == [5]


def test_a_classifier_is_taken_over_and_answers():
    """`head` and `encoder` of an earlier phase come along; the other head is new."""
    algorithm = _remixmatch()
    given = {
        "encoder": {"weight": jnp.float32(2)},
        "head": {
            "kernel": jnp.asarray(RNG.normal(size=(4, K)), jnp.float32),
            "bias": jnp.arange(3.0),
        },
    }
    state = jax.jit(algorithm.init)(KEY, BATCH, {"params": given})
    assert set(state.params) == {"encoder", "head", "rotation_head"}
    pixels_B4 = np.float64(BATCH["image"]).reshape(B, 4)
    expected = 2 * pixels_B4 @ np.float64(given["head"]["kernel"]) + np.arange(3)
    np.testing.assert_allclose(algorithm.predict(state, BATCH), expected, rtol=1e-5)
    features = algorithm.features(state, BATCH)
    np.testing.assert_allclose(features, 2 * pixels_B4, rtol=1e-6)


def test_cifar10_is_the_codes_recipe_for_40_labels():
    config = cifar10.get_config("remixmatch").train
    assert config.batch_size == 64 and config.unlabeled_ratio == 1
    assert config.algorithm.to_dict() == {
        "name": "remixmatch.ReMixMatch",
        "num_strong": 1,
        "unlabeled_weight": 1.5,
        "strong_weight": 0.5,
        "rotation_weight": 2.0,
        "rampup_steps": 131_072,
        "temperature": 0.5,
        "alpha": 0.75,
        "ema_decay": 0.999,
        "ema_warmup": False,
    }
    # Its warmup_kimg is 1,024, or 1,024 x 1,024 images, where it is not set.
    assert cifar10.MORE_LABELS["train.algorithm.rampup_steps"] == 1024 * 1024 // 64
    assert stl10.get_config("remixmatch").train.algorithm.rampup_steps == 2**14

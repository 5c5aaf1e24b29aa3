"""SwAV against a float64 transcription: codes, loss, one update; frozen prototypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import two_halves
from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.swav import SwAV
from ssl_jax.augment.multi_crop import MultiCrop
from two_halves import batch_norm, dense, encode, unit

CROPS = MultiCrop(
    *two_halves.GIVEN,
    small=lambda key, images: images[..., 2:6] * jax.random.uniform(key),
)


def distributed_sinkhorn(out, epsilon=0.05, iterations=3):
    """main_swav.py's, on one device: rows of its Q are prototypes."""
    Q = np.exp(out / epsilon).T
    K, B = Q.shape
    Q /= Q.sum()
    for _ in range(iterations):
        Q /= Q.sum(1, keepdims=True)
        Q /= K
        Q /= Q.sum(0, keepdims=True)
        Q /= B
    return (Q * B).T


def project(crops, part):
    """Of crops that go through the network together."""
    sizes = np.cumsum([len(crop) for crop in crops])[:-1]
    hidden = batch_norm(
        dense(np.concatenate(crops), part["Dense_0"]), part["BatchNorm_0"]
    )
    return np.split(dense(np.maximum(hidden, 0), part["Dense_1"]), sizes)


def scores_of(crops, params):
    """z^T c of two large crops, apart, and of the small ones, together."""
    features = [encode(crop, params) for crop in crops]
    part = params["projector"]
    z = project(features[:1], part) + project(features[1:2], part)
    z += project(features[2:], part)
    return [unit(each) @ params["predictor"]["Dense_0"]["kernel"] for each in z]


def swapped(scores, codes, temperature):
    """Eq. 2: each of the two codes, by every other crop, image by image."""
    total = 0.0
    for i, code in enumerate(codes):
        for v, score in enumerate(scores):
            if v != i:
                p = np.exp(score / temperature)
                log_p = np.log(p / p.sum(1, keepdims=True))
                total -= (code * log_p).sum(1).mean() / (len(scores) - 1)
    return total / len(codes)


@pytest.fixture
def given():
    return two_halves.batch(8)


def build(**hparams):
    hparams = (
        dict(prototypes=5, small_crops=2, temperature=0.5, freeze_steps=0) | hparams
    )
    return two_halves.build(SwAV, CROPS, **hparams)


def started(algorithm, given):
    state = algorithm.init(jax.random.key(0), given)
    params = two_halves.moved(state.params, 1)
    kernel = params["predictor"]["Dense_0"]["kernel"]
    params["predictor"]["Dense_0"]["kernel"] = unit(kernel.T).T
    return state.replace(params=params)


def test_one_update_is_the_papers(given):
    algorithm = build()
    crops = joint_embedding.crops_of(CROPS, given, jax.random.key(0), 2)
    crops = [np.float64(crop) for crop in crops]
    assert not np.allclose(crops[2], crops[3])
    state = started(algorithm, given)
    params = jax.tree.map(np.float64, state.params)
    codes = [distributed_sinkhorn(s) for s in scores_of(crops, params)[:2]]

    def loss(params):
        return swapped(scores_of(crops, params), codes, 0.5)

    moved = {"encoder", "projector", "predictor"}
    two_halves.assert_one_update_is(algorithm, state, given, loss, moved)


def test_codes_are_the_codes():
    scores = np.random.default_rng(0).uniform(-1, 1, (12, 5))
    codes = build().codes(jnp.float32(scores))
    np.testing.assert_allclose(codes, distributed_sinkhorn(scores), atol=1e-5)
    np.testing.assert_allclose(codes.sum(1), 1, atol=1e-5)
    # Padding is assigned to nothing, and changes no image's code.
    mask = np.arange(12) < 9
    padded = build().codes(jnp.float32(scores), mask)
    np.testing.assert_allclose(padded[:9], distributed_sinkhorn(scores[:9]), atol=1e-5)
    np.testing.assert_array_equal(padded[9:], 0)


def test_prototypes_stay_until_they_are_free_and_have_length_1(given):
    algorithm = build(freeze_steps=3)
    state = started(algorithm, given)
    longer = jax.tree.map(lambda kernel: 2 * kernel, state.params["predictor"])
    state = state.replace(params=state.params | {"predictor": longer})
    step = jax.jit(algorithm.train_step)
    for at, moves in ((2, False), (3, True)):
        before = state.replace(step=jnp.int32(at))
        after, _ = step(before, given, jax.random.key(0))
        kernel = after.params["predictor"]["Dense_0"]["kernel"]
        fixed = longer["Dense_0"]["kernel"] / 2
        assert np.allclose(kernel, fixed, atol=1e-6) != moves

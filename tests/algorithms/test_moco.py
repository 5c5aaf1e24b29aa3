"""MoCo v3 and v2 against float64 transcriptions, and the queue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import two_halves
from ssl_jax.algorithms.moco import MoCo
from ssl_jax.errors import UserError
from two_halves import encode, mlp, normalised_mlp, unit


def contrastive_loss(q, k, T):
    """moco-v3's ctr(q, k), algorithm 1, query by query."""
    q, k, total = unit(q), unit(k), 0.0
    for i in range(len(q)):
        shares = np.exp(k @ q[i] / T)
        total -= np.log(shares[i] / shares.sum())
    return 2 * T * total / len(q)


def info_nce(q, k, queue, T):
    """MoCo's algorithm 1, query by query: its key, and those of the queue."""
    q, k, total = unit(q), unit(k), 0.0
    for i in range(len(q)):
        own, queued = np.exp(q[i] @ k[i] / T), np.exp(queue @ q[i] / T)
        total -= np.log(own / (own + queued.sum()))
    return total / len(q)


def apart(algorithm, given, step):
    """A state at `step` whose target is not its online network."""
    state = algorithm.init(jax.random.key(0), given)
    target = two_halves.moved(state.extra["target"], 2)
    return state.replace(
        step=jnp.int32(step),
        params=two_halves.moved(state.params, 1),
        extra={**state.extra, "target": target},
    )


def averaged(state, m):
    """The momentum encoder that a step at `state` takes its keys from."""
    target, online = jax.tree.map(np.float64, (state.extra["target"], state.params))
    online = {part: online[part] for part in target}
    return jax.tree.map(lambda old, new: m * old + (1 - m) * new, target, online)


def assert_target_is(after, target):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        after.extra["target"],
        target,
    )


def test_one_update_is_v3s():
    given, views = (batch := two_halves.batch(8)), two_halves.halves(batch)
    algorithm = two_halves.build(MoCo, total_steps=100, momentum=0.9, temperature=0.5)
    state = apart(algorithm, given, step=30)
    m = 1.0 - 0.5 * (1.0 + np.cos(np.pi * 30 / 100)) * (1.0 - 0.9)
    target = averaged(state, m)
    k1, k2 = (normalised_mlp(encode(x, target), target["projector"]) for x in views)

    def loss(params):
        z = [normalised_mlp(encode(x, params), params["projector"]) for x in views]
        q1, q2 = (mlp(each, params["predictor"]) for each in z)
        return contrastive_loss(q1, k2, 0.5) + contrastive_loss(q2, k1, 0.5)

    moved = {"encoder", "projector", "predictor"}
    after, _ = two_halves.assert_one_update_is(algorithm, state, given, loss, moved)
    assert_target_is(after, target)
    assert after.extra.keys() == {"target"}


def without_norm(x, part):
    return two_halves.dense(
        np.maximum(two_halves.dense(x, part["Dense_0"]), 0), part["Dense_1"]
    )


def test_one_update_is_v2s_and_its_keys_take_the_place_of_the_oldest():
    given, views = (batch := two_halves.batch(8)), two_halves.halves(batch)
    algorithm = two_halves.build(
        MoCo, total_steps=100, momentum=0.9, temperature=0.5, queue=24
    )
    state = apart(algorithm, given, step=4)  # the second third of the queue is next
    target = averaged(state, 0.9)
    queue = np.float64(state.extra["queue_QP"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, atol=1e-6)
    keys = without_norm(encode(views[1], target), target["projector"])

    def loss(params):
        q = without_norm(encode(views[0], params), params["projector"])
        return info_nce(q, keys, queue, 0.5)

    moved = {"encoder", "projector"}
    after, _ = two_halves.assert_one_update_is(algorithm, state, given, loss, moved)
    assert_target_is(after, target)
    queue[8:16] = unit(keys)
    np.testing.assert_allclose(after.extra["queue_QP"], queue, atol=1e-5)


def test_a_queue_holds_whole_batches():
    algorithm = two_halves.build(MoCo, total_steps=100, queue=20)
    with pytest.raises(UserError, match="queue=20 must be a multiple of batch_size=8"):
        algorithm.init(jax.random.key(0), two_halves.batch(8))

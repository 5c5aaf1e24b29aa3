"""What a train step is made of: a state laid over, keys of its passes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import core, errors, models


def _state(initial=None, seed=0, filters=(4,)):
    model = models.build("convnet", num_classes=3, dtype="float32", filters=filters)
    key, images = jax.random.key(seed), jnp.zeros((1, 4, 4, 1))
    return core.init_state(model, optax.sgd(0.1), key, images, initial)


def test_init_state_lays_the_handed_over_parts_on_top():
    earlier = _state(seed=1)
    encoder = {
        "params": {"encoder": earlier.params["encoder"]},
        "batch_stats": {"encoder": earlier.model_state["batch_stats"]["encoder"]},
    }
    state, fresh = _state(encoder), _state()
    jax.tree.map(
        np.testing.assert_array_equal,
        state.params["encoder"],
        encoder["params"]["encoder"],
    )
    jax.tree.map(
        np.testing.assert_array_equal, state.params["head"], fresh.params["head"]
    )


def test_parts_of_another_shape_are_refused():
    earlier = {"params": {"encoder": _state(filters=(8,)).params["encoder"]}}
    with pytest.raises(errors.UserError, match="params/encoder.*does not fit"):
        _state(earlier)


class _Noisy(nn.Module):
    """Says which units dropout keeps."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dropout(0.5, deterministic=not train)(x)


def test_each_pass_of_a_step_drops_other_units():
    model, x = _Noisy(), jnp.ones((1, 64))
    key = jax.random.key(0)

    def kept(index):
        rngs = core.model_rngs(key, index)
        y, state = core.forward(model, {}, {}, x, train=True, rngs=rngs)
        assert state == {}
        return np.flatnonzero(y[0]).tolist()

    assert len({str(kept(index)) for index in range(4)}) == 4
    assert kept(1) == kept(1) and 16 < len(kept(1)) < 48
    plain, _ = core.forward(model, {}, {}, x, train=False)  # asks for no key
    np.testing.assert_array_equal(plain, x)


def test_a_steps_key_may_be_split_beside_its_passes():
    """None of the keys is another: `split` counts from 0."""
    key = jax.random.key(0)
    split = list(jax.random.split(key, 1000))
    passes = [core.model_rngs(key, index)["dropout"] for index in range(8)]
    data = {tuple(jax.random.key_data(k).tolist()) for k in [key, *split, *passes]}
    assert len(data) == 1009

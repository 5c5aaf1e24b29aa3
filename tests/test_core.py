"""Views joined and taken apart, and what an earlier phase hands over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ssl_jax import core, errors, models


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_split_views_inverts_concat_views(num_devices):
    views = [jnp.arange(4), 10 + jnp.arange(8), 100 + jnp.arange(12)]
    with jax.set_mesh(core.make_mesh(jax.devices()[:num_devices])):
        joined = jax.jit(core.concat_views)(*views)
        apart = jax.jit(core.split_views, static_argnums=(1, 2, 3))(joined, 4, 8, 12)
    assert sorted(joined.tolist()) == sorted(sum((v.tolist() for v in views), []))
    for view, same in zip(views, apart, strict=True):
        np.testing.assert_array_equal(view, same)


def test_every_row_stays_on_its_device():
    """Of 4 devices each holds its own quarter of every view."""
    with jax.set_mesh(core.make_mesh()):
        joined = jax.jit(core.concat_views)(jnp.arange(4), 10 + jnp.arange(8))
    np.testing.assert_array_equal(
        joined.reshape(4, 3), [[0, 10, 11], [1, 12, 13], [2, 14, 15], [3, 16, 17]]
    )


def test_a_loss_times_a_mask_of_another_rank_is_an_error():
    """A trap from other codebases: [B] * [B, 1] averages instead of masking."""
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(3) * jnp.ones((3, 1))


def test_mean_counts_only_what_the_mask_keeps():
    metric = core.mean(jnp.array([1.0, 2.0, 6.0]), jnp.array([True, False, True]))
    merged = jax.tree.map(jnp.add, metric, core.mean(jnp.array([5.0])))
    assert float(merged.compute()) == 4


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

"""Batches joined on several devices: no row moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import core


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

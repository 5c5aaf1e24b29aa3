"""Branches that some images of a batch go without."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssl_jax import core, models
from ssl_jax.models import Classifier
from ssl_jax.models.shared.stochastic_depth import StochasticDepth, rising

KEY, RATE = jax.random.key(0), 0.25


class Branches(nn.Module):
    """An encoder that is two branches, each dropped."""

    @nn.compact
    def __call__(self, x_BHWC, *, train):
        y = x_BHWC.reshape(len(x_BHWC), -1)
        one, other = StochasticDepth(RATE), StochasticDepth(RATE)
        return jnp.concatenate([one(y, train=train), other(y, train=train)], axis=1)


def _features(model, images, train=True, **options):
    variables = dict(params={}, model_state={}, images_BHWC=images)
    how = dict(train=train, rngs=core.model_rngs(KEY), method="features")
    return core.forward(model, **variables, **how, **options)[0]


def test_a_branch_is_there_as_a_whole_or_not_and_as_large_on_average():
    images, model = jnp.ones((400, 2, 2, 1)), Classifier(Branches(), 5)
    both = np.asarray(_features(model, images)).reshape(400, 2, 4)
    kept = both[..., 0] > 0
    np.testing.assert_allclose(both, kept[..., None] * np.ones(4) / (1 - RATE))
    assert abs(kept.mean() - (1 - RATE)) < 5 * np.sqrt(RATE * (1 - RATE) / kept.size)
    assert not np.array_equal(*kept.T)  # each branch draws for itself
    np.testing.assert_array_equal(_features(model, images, train=False), 1)
    assert rising(0.2, 3) == [0.0, 0.1, 0.2] and rising(0.2, 1) == [0.0]


def test_a_row_of_joined_views_drops_the_same_on_any_number_of_devices_and_in_parts():
    """Where views lie in another order; and the devices exchange nothing."""
    sizes = (8, 16)
    views = [jnp.ones((size, 1, 2, 1)) for size in sizes]
    mesh = core.make_mesh()
    rows = jax.NamedSharding(mesh, jax.P("data"))
    for model in (
        Classifier(Branches(), 5),
        models.in_parts(Classifier(Branches(), 5), 2),
    ):

        def features(*views, model=model):
            joined = _features(model, core.concat_views(*views), sizes=sizes)
            return core.split_views(joined, *sizes)

        expected = jax.jit(lambda *views, features=features: features(*views))(*views)
        assert len(np.unique(np.concatenate(expected), axis=0)) == 4
        with jax.set_mesh(mesh):
            args = dict(in_shardings=rows, out_shardings=rows)
            compiled = jax.jit(features, **args).lower(*views).compile()
            ours = compiled(*jax.device_put(views, rows))
        for one, four in zip(expected, ours, strict=True):
            np.testing.assert_array_equal(one, four)
        exchanges = r" (?:all|collective|reduce-scatter)[\w-]*\("
        assert not re.findall(exchanges, compiled.as_text())

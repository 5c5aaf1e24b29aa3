"""A network whose outputs are its pixels times a weight: numbers go in by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssl_jax.models.shared.batch_norm import BatchNorm


class Pixels(nn.Module):
    """One weight, 1 at first, for logits or features; and what BatchNorm would see."""

    @nn.compact
    def __call__(self, x, *, train):
        weight = self.param("weight", nn.initializers.ones, ())
        seen = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))
        if train and not self.is_initializing():
            seen.value = 100 * seen.value + len(x)  # digits: one pass after the other
        return weight * x.reshape(len(x), -1)


class Normalised(nn.Module):
    """Pixels through BatchNorm, for logits."""

    @nn.compact
    def __call__(self, x, *, train):
        x_BK = Pixels(name="pixels")(x, train=train)
        return BatchNorm(use_running_average=not train, momentum=0.9)(x_BK)


def batch(labeled_BK, labels, unlabeled_UK):
    """Logits as images; unlabeled ones are truly of class 0, the last not known."""
    U = len(unlabeled_UK)
    return {
        "image": jnp.asarray(labeled_BK)[:, None, None],
        "label": jnp.array(labels),
        "index": jnp.arange(len(labels)),
        "unlabeled_image": jnp.asarray(unlabeled_UK)[:, None, None],
        "unlabeled_label": jnp.array([0] * (U - 1) + [-1]),
        "unlabeled_index": jnp.arange(U),
    }


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(-1, keepdims=True)


def spied(monkeypatch, module, name):
    """A list that gets (positional arguments, result) of each call of the module's
    function."""
    calls, function = [], getattr(module, name)

    def spy(*args, **settings):
        calls.append((args, function(*args, **settings)))
        return calls[-1][1]

    monkeypatch.setattr(module, name, spy)
    return calls


def descended(loss, params, rate):
    """params - rate * slope of `loss(params)`, a tree of arrays in double precision;
    slopes by central differences."""
    leaves, tree = jax.tree.flatten(params)
    leaves = [np.asarray(leaf, np.float64) for leaf in leaves]
    moved = [leaf.copy() for leaf in leaves]
    for n, leaf in enumerate(leaves):
        for i in np.ndindex(leaf.shape):
            at = []
            for by in (1e-5, -1e-5):
                other = leaf.copy()
                other[i] += by
                trial = [*leaves[:n], other, *leaves[n + 1 :]]
                at.append(loss(jax.tree.unflatten(tree, trial)))
            moved[n][i] -= rate * (at[0] - at[1]) / 2e-5
    return jax.tree.unflatten(tree, moved)

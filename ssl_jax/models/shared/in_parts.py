"""Networks that keep less for the backward pass, and compute it again there.

Both classes wrap a module and have its variables by its own names. Neither is
`nn.remat`: XLA:CPU drops the optimization barriers that it is made of before it puts
operations in order, and then needs no byte less (measured: 206 MiB with and without).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core import PyTree
from ssl_jax.core.ranges import Count


class Recomputed(nn.Module):
    """A layer in training, whose input is kept, and nothing that is in between."""

    layer: nn.Module

    def setup(self):
        nn.share_scope(self, self.layer)

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        return _in_turn(self, self.layer, x_BHWC[None])[0]


class InParts(nn.Module):
    """An encoder that in training goes over the images part after part, so that at no
    time more is kept than one of them needs. Autodiff sums the parts' gradients.

    BatchNorm sees one part at a time, and moves its running moments by each. Else the
    features are those of the whole batch at once.

    Part p has the rows p, p + parts, ...: the same share of every view that
    `core.concat_views` joins, and the same images on any number of devices, each of
    which has its rows already. So every view needs rows that `parts` times the devices
    divide.
    """

    encoder: nn.Module
    parts: Count

    def setup(self):
        nn.share_scope(self, self.encoder)

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD. Evaluation is not split."""
        if not train:
            return self.encoder(images_BHWC, train=False)
        B, *image = images_BHWC.shape
        rows = images_BHWC.reshape(B // self.parts, self.parts, *image)
        y_PBD = _in_turn(self, self.encoder, jnp.moveaxis(rows, 1, 0), train=True)
        return jnp.moveaxis(y_PBD, 0, 1).reshape(B, -1)


def _in_turn(self, inner, x_P, **options):
    """`inner` of one part after the other: y_P. Its variables move in `self`, which
    shares them."""
    inner = inner.clone(parent=None)
    state = dict(self.variables)
    params = state.pop("params", {})
    moving = [name for name in state if self.is_mutable_collection(name)]
    keys_P = {
        name: jax.random.split(self.make_rng(name), len(x_P))
        for name in ("dropout",)  # the one rng there is: core.model_rngs
        if self.has_rng(name)
    }
    rows_P = {}  # what each part's rows draw by
    if self.scope.root.has_variable("rows", "number"):
        number_B = jnp.asarray(self.scope.root.get_variable("rows", "number"))
        rows_P = {"rows": {"number": number_B.reshape(-1, len(x_P)).T}}

    def apply(params, state, x, drawn):
        keys, rows = drawn
        variables = {"params": params, **state, **rows}
        y, moved = inner.apply(variables, x, rngs=keys, mutable=moving, **options)
        return y, state | moved

    y_P, state = _recomputing(apply)(params, state, x_P, (keys_P, rows_P))
    for collection in moving:
        for name, value in state[collection].items():
            self.put_variable(collection, name, value)
    return y_P


def _recomputing(apply: Callable) -> Callable:
    """(params, state, x_P, drawn_P) -> (y_P, state), of
    apply(params, state, x, drawn) -> (y, state), where the state of a part is what the
    one before it left. It has gradients of y_P with respect to params and x_P."""

    @jax.custom_vjp
    def outputs(params, state, x_P, drawn_P):
        return forward(params, state, x_P, drawn_P)[0]

    def forward(params, state, x_P, drawn_P):
        def part(state, x, drawn):
            y, moved = apply(params, state, x, drawn)
            return moved, (y, state)

        state, (y_P, state_P) = _loop(part, state, x_P, drawn_P)
        return (y_P, state), (params, state_P, x_P, drawn_P)

    def backward(kept, cotangents):
        params, state_P, x_P, drawn_P = kept
        ct_P, _ = cotangents  # no loss is of the moved state

        def part(grads, x, state, drawn, ct):
            x = _after(x, rows=ct)
            _, pull = jax.vjp(lambda p, x: apply(p, state, x, drawn)[0], params, x)
            grad, ct_x = pull(ct)
            return jax.tree.map(jnp.add, grads, grad), ct_x

        zeros = jax.tree.map(jnp.zeros_like, params)
        grads, ct_x_P = _loop(part, zeros, x_P, state_P, drawn_P, ct_P)
        return grads, None, ct_x_P, None

    outputs.defvjp(forward, backward)
    return outputs


def _loop(part: Callable, carry: PyTree, x_P: jax.Array, *others_P: Any):
    """`lax.scan` of part(carry, x, *others) -> (carry, y), which on a CPU is unrolled:
    XLA runs a convolution inside a loop 20 to 50 times slower there."""
    if jax.default_backend() != "cpu":
        return jax.lax.scan(lambda carry, xs: part(carry, *xs), carry, (x_P, *others_P))
    y_P = []
    for p in range(len(x_P)):
        x, *others = jax.tree.map(lambda leaf, p=p: leaf[p], (x_P, *others_P))
        if y_P:
            x = _after(x, rows=jax.tree.leaves(y_P[-1])[0], whole=carry)
        carry, y = part(carry, x, *others)
        y_P.append(y)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *y_P)


def _after(x: jax.Array, *, rows: jax.Array, whole: PyTree = ()) -> jax.Array:
    """x, which is there no sooner than `rows`, as many as x has, and the leaves of
    `whole`.

    On a CPU a barrier would not do, so x is made to depend on them: where one begins
    with NaN, so does x, whose loss is not finite then anyhow. Row by row, or devices
    would exchange them.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier((x, rows, whole))[0]
    lost = jnp.isnan(rows.reshape(len(x), -1)[:, 0])
    for leaf in jax.tree.leaves(whole):
        lost |= jnp.isnan(leaf.ravel()[0])
    return jnp.where(lost.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, x)

"""Floating point operations of a computation's matrix products and convolutions.

Counted from its jaxpr, so that the count is the same whatever compiles it: XLA's own,
of the compiled program, takes the body of a loop once, and depends on what it calls a
library for. A multiplication and an addition are two; those with zeros that padding or
a dilated input brings are none, as nobody has to do them, and so are those whose
results nothing needs, such as the gradient by a network's input, which the pieces of
ssl_jax/models/shared/convolution.py ask for and XLA drops.

The count is of what is done: on a CPU, where channels are many, Winograd's 16 products
and not the 36 that they stand for. So a share of the machine's rate is one that it can
reach, at most 1; and it compares forms of a step less well than their seconds do.

A `while` loop, whose trips only its run tells, counts once, a `cond` as its largest
branch. All else (sums, activations, BatchNorm, augmentation) is left out: it is bound
by the memory and not by the arithmetic.
"""

import math
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.extend import core as jax_core
from jax.interpreters import partial_eval


def of(function: Callable, *args) -> float:
    """Of one call with arguments of these shapes, on all devices together."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return float(_of_jaxpr(needed))


def _of_jaxpr(jaxpr):
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation):
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_product(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inside(params)]
    if name == "cond":
        return max(inner)
    times = 1
    if name == "scan":
        times = params["length"]
    elif name == "shard_map":  # whose shapes are one device's
        times = math.prod(params["mesh"].shape.values())
    return times * sum(inner)


def _inside(params) -> Iterator:
    """The jaxprs that an equation calls, as jit, scan, remat and custom_vjp do."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, jax_core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, jax_core.Jaxpr):
                yield each


def _of_product(equation):
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval, equation.outvars[0].aval
    return 2 * out.size * math.prod(left.shape[axis] for axis in contracted)


def _of_convolution(equation):
    params = equation.params
    numbers = params["dimension_numbers"]
    images, kernel = (invar.aval.shape for invar in equation.invars)
    out = equation.outvars[0].aval.shape
    specs = numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:]
    pairs = 1
    for axis, (in_axis, kernel_axis, out_axis) in enumerate(zip(*specs, strict=True)):
        pairs *= _pairs(
            images[in_axis],
            kernel[kernel_axis],
            out[out_axis],
            stride=params["window_strides"][axis],
            before=params["padding"][axis][0],
            dilated=params["lhs_dilation"][axis],
            kernel_dilated=params["rhs_dilation"][axis],
        )
    channels = kernel[numbers.rhs_spec[1]]  # of the images, in a group
    batch, features = (out[axis] for axis in numbers.out_spec[:2])
    return 2 * pairs * channels * batch * features


def _pairs(size, taps, outputs, *, stride, before, dilated, kernel_dilated) -> int:
    """(output, tap) of one axis that meet a pixel, and neither padding nor a gap."""
    place = np.arange(outputs)[:, None] * stride - before
    place = place + np.arange(taps)[None, :] * kernel_dilated
    inside = (place >= 0) & (place <= (size - 1) * dilated)
    return int((inside & (place % dilated == 0)).sum())

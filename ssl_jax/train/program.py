"""A phase compiled for its devices."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import PyTree, TrainState, fetch, one_at_a_time, place
from ssl_jax.data.placement import EVAL_BATCH, padded_batches
from ssl_jax.errors import UserError
from ssl_jax.evaluate.batches import compile_features
from ssl_jax.train import weights
from ssl_jax.train.phases import Phase
from ssl_jax.train.sections import told
from ssl_jax.workdir import handover


class Program(NamedTuple):
    """A phase on its devices, at step 0, compiled."""

    state: TrainState
    sums: PyTree  # metrics since the last log point
    call: Callable  # (state, sums, arrays, item) -> (state, sums), steps_per_call steps
    compile_seconds: float


def compile_phase(phase: Phase, initial: PyTree | None = None) -> Program:
    """Initialises the state and compiles the training call, inside `jax.set_mesh`.

    State and sums are replicated and donated; a batch is split by rows.
    """
    began = time.monotonic()
    replicated = NamedSharding(phase.mesh, P())
    _, key_steps = jax.random.split(phase.key)
    arrays, item = phase.feed.arrays, first_item(phase)
    # Traced once for all that ask, which takes seconds each time.
    step = jax.jit(phase.in_parts.train_step, inline=True)

    def one_step(arrays, state, sums, item):
        return train_step(phase, step, key_steps, arrays, state, sums, item)

    def call(state, sums, arrays, items):
        return steps(partial(one_step, arrays), (state, sums), items, convolves)

    state = initialise(phase, initial)
    sums, convolves = traced(phase, step, state)
    sums = place(sums, replicated)
    compiled = (
        jax.jit(call, donate_argnums=(0, 1), out_shardings=replicated)
        .lower(state, sums, arrays, item)
        .compile()
    )
    call = one_at_a_time(compiled)
    return Program(state, sums, call, time.monotonic() - began)


def steps(
    one_step: Callable, carry: PyTree, items: PyTree, convolves: bool
) -> tuple[TrainState, PyTree]:
    """(state, sums) after one_step(state, sums, item) of each of a call's items.

    Args:
      carry: (state, sums) before them.
      convolves: whether a step has a convolution.
    """
    # XLA:CPU runs a convolution inside a loop 20 to 50 times slower than outside.
    if jax.default_backend() == "cpu" and convolves:
        for i in range(len(jax.tree.leaves(items)[0])):
            carry = one_step(*carry, at(items, i))
        return carry
    carry, _ = jax.lax.scan(
        lambda carry, item: (one_step(*carry, item), None), carry, items
    )
    return carry


def traced(phase: Phase, step: Callable, state: TrainState) -> tuple[PyTree, bool]:
    """(the sums of no step of the phase, whether a step has a convolution)."""
    jaxpr, shapes = _trace_step(phase, step, state)
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return sums, "conv_general_dilated" in _primitives(jaxpr)


def train_step(phase: Phase, step: Callable, key, arrays, state, sums, item):
    """One step of the phase, by its algorithm's train_step `step`, whose keys derive
    from `key`: (state, sums)."""
    batch = phase.feed.batch(arrays, item)
    state, metrics = step(state, batch, jax.random.fold_in(key, state.step))
    return state, jax.tree.map(jnp.add, sums, metrics)


def initialise(phase: Phase, initial: PyTree | None = None) -> TrainState:
    """The phase's state at step 0, inside `jax.set_mesh`."""
    replicated = NamedSharding(phase.mesh, P())
    init = jax.jit(_init_of(phase), out_shardings=replicated)
    arrays = phase.feed.arrays
    if phase.algorithm.embeds:
        arrays = _embedded(phase, initial)
    return init(arrays, first_item(phase), initial)


def initial_of(phase: Phase, path: Path, *, says: bool = False) -> PyTree | None:
    """What the phase starts from, for `initialise`: an earlier phase, or a file of
    weights; None from scratch.

    Args:
      path: the workdir of its run.
      says: what of a file was taken, and what not.

    Raises:
      UserError: there is no such phase or file, or it does not fit.
    """
    start_from, keep = phase.section.start_from, phase.section.keep
    if start_from != "scratch" or not phase.model.weights:
        return handover.handed_over(start_from, keep, path)
    args = phase.feed.arrays, first_item(phase)
    if phase.model.partial:
        state = initialise(phase)
    else:
        state = jax.eval_shape(_init_of(phase), *args, None)
    network = {"params": state.params, **state.model_state}
    image = jax.eval_shape(
        lambda arrays, item: phase.feed.batch(arrays, at(item, 0))["image"], *args
    )
    return weights.of_file(
        phase.model,
        handover.kept(network, keep, phase.model.weights),
        phase.name,
        phase.section.views,
        image.shape[1:],
        says=says,
    )


def like(phase: Phase) -> PyTree:
    """A checkpoint of the phase without its values: {"state", "sums"} of shapes."""
    args = phase.feed.arrays, first_item(phase)
    state = jax.eval_shape(_init_of(phase), *args, None)
    replicated = NamedSharding(phase.mesh, P())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        {
            "state": state,
            "sums": _trace_step(phase, phase.in_parts.train_step, state)[1],
        },
    )


def check_handovers(phases: list[Phase]) -> None:
    """Finds before any training that a phase asks for a part that its predecessor
    will not have, or that does not fit.

    Raises:
      UserError: so it is, of each phase.
    """
    if any(phase.section.start_from for phase in phases):
        told(_handovers(phases))  # else shapes would be traced for nothing


def _handovers(phases):
    """A message for each phase that cannot begin; of what goes on from one, none."""
    variables, missing = {}, set()
    for phase in phases:
        start_from, keep = phase.section.start_from, phase.section.keep
        if start_from in missing:
            missing.add(phase.name)
            continue
        try:
            if start_from in variables:
                initial = handover.kept(variables[start_from], keep, start_from)
            else:
                initial = initial_of(phase, Path(start_from))
            args = phase.feed.arrays, first_item(phase)
            state = jax.eval_shape(_init_of(phase), *args, initial)
        except UserError as error:
            yield str(error)
            missing.add(phase.name)
            continue
        variables[phase.name] = {"params": state.params, **state.model_state}


def first_item(phase: Phase) -> PyTree:
    """What the phase's first call is sent."""
    return next(phase.feed.items(0, phase.section.steps_per_call))


def at(items: PyTree, i: int) -> PyTree:
    """Of what a call is sent, that of its step `i`."""
    return jax.tree.map(lambda leaf: leaf[i], items)


def _embedded(phase, initial):
    """The one batch of a phase whose method learns from features, and these: of an
    evaluation's batch at a time, as the activations of all would not fit."""
    algorithm, batch, mesh = phase.algorithm, phase.feed.arrays, phase.mesh
    key, _ = jax.random.split(phase.key)
    state = jax.jit(algorithm.begun)(key, batch, initial)
    image_NHWC, label_N, mask_N = (fetch(batch[n]) for n in ("image", "label", "mask"))
    asked_N = mask_N & (label_N >= 0) if algorithm.embeds == "labeled" else mask_N
    batches = padded_batches(
        image_NHWC,
        label_N,
        of=np.flatnonzero(asked_N),
        batch=EVAL_BATCH,
        num_devices=mesh.size,
    )
    features_nD, _ = compile_features(algorithm, mesh)(state, batches)
    features_ND = np.zeros((len(mask_N), features_nD.shape[1]), np.float32)
    features_ND[asked_N] = features_nD
    return batch | {"feature": place(features_ND, NamedSharding(mesh, P("data")))}


def _init_of(phase):
    key, _ = jax.random.split(phase.key)

    def init(arrays, item, initial):
        batch = phase.feed.batch(arrays, at(item, 0))
        return phase.algorithm.init(key, batch, initial)

    return init


def _trace_step(phase, step, state):
    """The jaxpr of a training step, and the shapes of its metrics."""

    def of_item(state, arrays, item):
        batch = phase.feed.batch(arrays, at(item, 0))
        return step(state, batch, phase.key)

    traced = jax.make_jaxpr(of_item, return_shape=True)
    try:
        jaxpr, (_, shapes) = traced(state, phase.feed.arrays, first_item(phase))
    except KeyError as error:
        if error.args != ("unlabeled_image",):
            raise
        raise UserError(
            f"{phase.section.algorithm} learns from unlabeled images too: "
            f"{phase.name}.unlabeled_ratio=0 must be at least 1."
        ) from error
    return jaxpr, shapes


def _primitives(jaxpr) -> set[str]:
    """The names of those in a jaxpr, and in what its equations hold. To look for one in
    the jaxpr as it is printed takes a tenth of the time that tracing it took."""
    names, seen, within = set(), set(), [jaxpr]
    while within:
        jaxpr = within.pop()
        if id(jaxpr) in seen:
            continue
        seen.add(id(jaxpr))
        for equation in jaxpr.eqns:
            names.add(equation.primitive.name)
            held = jax.tree.leaves(equation.params, is_leaf=_is_jaxpr)
            within += filter(_is_jaxpr, held)
    return names


def _is_jaxpr(value):
    return hasattr(value, "eqns")

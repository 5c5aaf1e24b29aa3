"""Where a step's time goes: its arithmetic and memory against what the machine can do,
and the shares of augmentation, optimizer, averages, network and host.

The shares are those of compiled pieces, each timed alone in turn with the bare step.
XLA fuses across them in the step itself, so that they are near what each costs there,
and need not be it exactly:

* views: drawing the batch, and every view that the algorithm asks for;
* update: the optimizer and the moving averages, on gradients of the right shapes;
* network: the rest of the bare step, forward and backward passes;
* host: what the full loop takes beyond the bare step, in which the devices wait.
"""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.speed import flops
from ssl_jax import core
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import Program, at, first_item

# Of a measurement of the machine's rates: the matrices' side, and how often. A GPU is
# done with one in less time than a call takes to get there.
SIDE, GPU_SIDE = {"cpu": 2048}, 8192
TIMES, GPU_TIMES = {"cpu": 1}, 50
COPIED = 2**28  # bytes on a device: past every cache


class Piece(NamedTuple):
    """Something compiled that can be timed."""

    run: Callable  # state -> state, or what it gave
    state: core.PyTree

    def seconds(self, times: int) -> tuple[float, "Piece"]:
        """(of one run, among `times`; the piece, to go on from)."""
        state, began = self.state, time.perf_counter()
        for _ in range(times):
            state = self.run(state)
        jax.block_until_ready(state)
        return (time.perf_counter() - began) / times, self._replace(state=state)


def work(phase: Phase, program: Program) -> dict:
    """FLOPs of a step, counted from its jaxpr (flops.py) and by XLA, and the bytes that
    XLA's operations read and write: all devices' together.

    XLA counts the body of a loop once, so that its numbers are too low where the step
    has one (`xla_flops` then lies far below), and of several steps a call tell nothing;
    and bytes as if no cache held any.
    """
    item = at(first_item(phase), 0)

    def step(state, arrays, item):
        batch = phase.feed.batch(arrays, item)
        return phase.algorithm.train_step(state, batch, phase.key)

    with jax.set_mesh(phase.mesh):
        counted = flops.of(step, program.state, phase.feed.arrays, item)
    found = {"flops": counted, "xla_flops": None, "bytes": None}
    if phase.section.steps_per_call == 1:
        # Of one device's program.
        of_one = inspect.unwrap(program.call).cost_analysis() or {}
        for name, key in (("xla_flops", "flops"), ("bytes", "bytes accessed")):
            if key in of_one:
                found[name] = of_one[key] * phase.mesh.size
    return found


def ceilings(mesh: Mesh, dtype: str, shrink: int = 1) -> tuple[dict, dict]:
    """What the machine can do at best: ({"matmul": Piece, "copy": Piece}, {"matmul":
    FLOPs of a run, "copy": bytes}), on all devices of the mesh together.

    Args:
      dtype: of the matrices: the network's.
      shrink: smaller by so much, for tests.
    """
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    side = SIDE.get(mesh.devices.flat[0].platform, GPU_SIDE) // shrink
    height = side * mesh.size
    rng = np.random.default_rng(0)  # zeros are multiplied faster than data

    def drawn(*shape):
        return (rng.standard_normal(shape, np.float32) / np.sqrt(side)).astype(dtype)

    left = jax.device_put(drawn(height, side), rows)
    right = jax.device_put(drawn(side, side), whole)
    length = COPIED // 4 // shrink * mesh.size
    array = jax.device_put(np.ones(length, np.float32), rows)
    multiply = _compiled(jnp.matmul, left, right)
    negative = _compiled(jnp.negative, array, donate_argnums=0)  # no new memory
    pieces = {
        "matmul": Piece(lambda x: multiply(x, right), left),
        "copy": Piece(negative, array),
    }
    return pieces, {"matmul": 2 * height * side**2, "copy": 2 * 4 * length}


def pieces(phase: Phase, state: core.TrainState) -> dict[str, Piece]:
    """What a step has of "views" and "update", each with copies of the state."""
    found = {}
    with jax.set_mesh(phase.mesh):
        state = jax.tree.map(jnp.copy, state)  # a step takes its own away
        if getattr(phase.algorithm, "views", None) is not None:
            args = phase.feed.arrays, at(first_item(phase), 0)
            views = _compiled(lambda *args: viewed(phase, *args), state, *args)
            found["views"] = Piece(lambda _: views(state, *args), None)
        if phase.section.tx is not None:
            grads = state.params
            moving = state.params, state.opt_state, averages(state)
            moving = jax.tree.map(jnp.copy, moving)

            def moved(moving, grads):
                return _moved(phase.section.tx, *moving, grads)

            whole = NamedSharding(phase.mesh, P())
            update = _compiled(
                moved, moving, grads, donate_argnums=0, out_shardings=whole
            )
            found["update"] = Piece(lambda moving: update(moving, grads), moving)
    return found


def viewed(phase: Phase, state, arrays, item) -> list:
    """Every view that a step's algorithm asks for: it is traced as it is, and what does
    not lead to one of them is no part of the compiled function."""
    asked = []

    def noted(view):
        def noting(*args, **kwargs):
            asked.append(view(*args, **kwargs))
            return asked[-1]

        return noting

    views = phase.algorithm.views
    views = views._replace(
        **{n: noted(view) for n, view in views._asdict().items() if callable(view)}
    )
    algorithm = dataclasses.replace(phase.algorithm, views=views)
    algorithm.train_step(state, phase.feed.batch(arrays, item), phase.key)
    return asked


def averages(state: core.TrainState) -> dict[str, core.PyTree]:
    """What the state has in `extra` of parts of the parameters: a teacher, a target."""
    return {
        name: value
        for name, value in state.extra.items()
        if isinstance(value, Mapping) and value and value.keys() <= state.params.keys()
    }


def _moved(tx, params, opt_state, averages, grads):
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    averages = {
        name: core.ema(average, {part: params[part] for part in average}, 0.999)
        for name, average in averages.items()
    }
    return params, opt_state, averages


def _compiled(function, *args, **options):
    return jax.jit(function, **options).lower(*args).compile()


def shares(seconds: Mapping[str, list[float]], done: Mapping, best: Mapping) -> dict:
    """What rounds of timings say.

    Args:
      seconds: of one run in each round, of "full", "bare", "matmul", "copy", and
        "views" and "update" where there are.
      done: `work`'s.
      best: FLOPs and bytes of a run of the ceilings.

    Returns:
      share: of the full loop's time, by views, update, network and host;
      of_matmul, of_copy: the shares of the machine's rates that the bare step reaches,
      None where its bytes are not known; and the medians that they are of.
    """
    rounds = [
        dict(zip(seconds, row, strict=True))
        for row in zip(*seconds.values(), strict=True)
    ]
    shares = {"views": [], "update": [], "network": [], "host": []}
    for taken in rounds:
        views, update = taken.get("views", 0.0), taken.get("update", 0.0)
        parts = {
            "views": views,
            "update": update,
            "network": taken["bare"] - views - update,
            "host": taken["full"] - taken["bare"],
        }
        for name, part in parts.items():
            shares[name].append(part / taken["full"])
    rates = {name: median(best[name] / s for s in seconds[name]) for name in best}
    of = {}
    for name, amount in (("matmul", done["flops"]), ("copy", done["bytes"])):
        of[name] = None if amount is None else amount / rates[name]
    bare = median(seconds["bare"])
    return {
        **done,
        "matmul_flops_per_second": rates["matmul"],
        "copy_bytes_per_second": rates["copy"],
        "share": {name: median(values) for name, values in shares.items()},
        "of_matmul": of["matmul"] / bare,
        "of_copy": None if of["copy"] is None else of["copy"] / bare,
        "seconds": {name: median(values) for name, values in seconds.items()},
    }

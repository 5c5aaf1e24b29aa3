"""Many seeds at once: a phase's whole training, vmapped, as one compiled program.

`config.num_seeds` runs of one phase that differ in their seed alone, and so in their
labels, weights, batches and views. Each does what `run.run` would do with its seed, up
to rounding. What is the same for all is held once. There are no checkpoints: a program
that runs for minutes is not stopped in the middle, and a killed one starts again.

On a CPU this is for dense and sparse models: XLA runs a vmapped convolution about 40
times slower than 10 single ones in turn.
"""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average

from ssl_jax.core import PyTree, make_mesh
from ssl_jax.core.metrics import ByClass, Calibration
from ssl_jax.data import loading
from ssl_jax.errors import UserError
from ssl_jax.evaluate import reported
from ssl_jax.evaluate.batches import sums
from ssl_jax.report import figures
from ssl_jax.train import phases, pictures, program, sections, stopping
from ssl_jax.train.phases import Phase
from ssl_jax.train.run import check_validation, entered, say_found
from ssl_jax.workdir import logs, results

_FEW = 5  # of 2 to 20, 4 and 5 were fastest for GCN on Cora


class Inputs(NamedTuple):
    """What a seed's training is a function of, for S seeds: leaves [S, ...], or
    without that axis where all seeds have the same."""

    key: jax.Array
    arrays: PyTree  # of the feed
    items: PyTree  # [steps / eval_every, eval_every, ...] of it
    eval_sets: PyTree


class Mean(NamedTuple):
    """An Average, computed on the device."""

    value: jax.Array
    count: jax.Array  # whether it is above 0: kept itself, XLA would round otherwise

    def compute(self) -> jax.Array:
        return self.value


def run(
    config: Mapping[str, Any], path: Path, devices: list | None = None
) -> dict | None:
    """Trains `config.num_seeds` seeds from `config.seed` on, on one device.

    Returns:
      The contents of result.json: "seeds" lists what each seed's own would have, and
      "test" has the means, and the standard deviations as <name>_std.

    Raises:
      UserError: a mistake in the configuration, the data or the workdir; more phases
        than one, or a convolution on a CPU; a loss that is not finite.
    """
    mesh = make_mesh((devices or jax.devices())[:1])
    wanted = sections.parse(config)
    device = results.device(mesh)
    with entered(wanted, path, mesh) as (workdir, data), jax.set_mesh(mesh):
        if data is None:
            return workdir.result
        if workdir.result is not None:
            _draw(wanted, data, workdir)
            return workdir.result
        check_validation(wanted, data)
        facts = say_found(wanted, data)
        own = wanted.data_with(workdir.labels(wanted.config))
        phase, inputs, axes = _build(wanted, own, data, mesh)
        began = time.monotonic()
        train = _at_once(lambda *args: _train(phase, Inputs(*args)), tuple(axes))
        _check_convolutions(train, inputs)
        logs.say(f"{phase.name}: {wanted.num_seeds} seeds at once, compiling")
        compiled = jax.jit(train).lower(*inputs).compile()
        compile_seconds = time.monotonic() - began
        logs.say(f"{phase.name}: training for {phase.section.steps} steps at most")
        began = time.monotonic()
        kept_SE, evaluations_S = jax.device_get(compiled(*inputs))
        seconds = time.monotonic() - began
        rows_of = {
            seed: _rows(phase, _at(kept_SE, i), int(evaluations_S[i]))
            for i, seed in enumerate(_seeds(wanted))
        }
        _check_finite(phase.name, rows_of)
        with contextlib.closing(workdir.journal) as journal:
            journal.resume(phase.name, 0)
            for seed, rows in rows_of.items():
                for row in rows:
                    journal.write({"seed": seed, **row, "seconds": seconds})
            journal.sync()
        entries = {  # times are of all seeds
            seed: reported.entry(
                rows,
                algorithm=phase.section.algorithm,
                stopped=stopping.stopped_by(rows, phase.section),
                seconds=seconds,
                compile_seconds=compile_seconds,
            )
            for seed, rows in rows_of.items()
        }
        _draw(wanted, data, workdir)
        workdir.phase(phase.name).finish(next(iter(entries.values())))
        return workdir.finish(_result(wanted, device, facts, entries, workdir.resumed))


def _seeds(wanted):
    return range(wanted.seed, wanted.seed + wanted.num_seeds)


def _draw(wanted, data, workdir):
    (section,), rows_of = wanted.sections, {}
    for row in workdir.journal.rows():
        rows_of.setdefault(row["seed"], []).append(row)
    title = phases.title(wanted, data.split, section.name)
    rows, loss = list(rows_of.values()), pictures.loss_of(section)
    bands = partial(figures.curves.bands, rows, title, loss)
    workdir.draw(section.name, {"seeds": bands})


def _at_once(train, axes):
    """`train` vmapped over the seeds; on a CPU over a few at a time, in a loop of the
    same program, because many fall out of its cache."""

    def all_seeds(*inputs):
        leaves, tree = jax.tree.flatten(inputs)
        which = jax.tree.leaves(axes, is_leaf=lambda axis: axis is None)
        own = [leaf for leaf, axis in zip(leaves, which, strict=True) if axis == 0]

        def one(own):
            given = iter(own)
            pairs = zip(leaves, which, strict=True)
            mine = [next(given) if axis == 0 else leaf for leaf, axis in pairs]
            return train(*jax.tree.unflatten(tree, mine))

        few = _FEW if jax.default_backend() == "cpu" else len(own[0])
        return jax.lax.map(one, own, batch_size=few)

    return all_seeds


def _check_convolutions(train, inputs):
    if jax.default_backend() != "cpu":
        return
    if "conv_general_dilated" in str(jax.make_jaxpr(train)(*inputs)):
        raise UserError(
            "num_seeds > 1 of a convolutional network is slower on a CPU than one seed "
            "after another: use num_seeds=1 and --config.seed, or a model such as mlp."
        )


def _build(wanted, own, data, mesh):
    """(the phase, whose seed is of no account; the inputs of all seeds; their axes).

    `own` is what is wanted of the data; `data` are the first seed's.
    """
    (section,), each = wanted.sections, []
    if data.pool is None and data.graph is None:
        raise UserError(
            f"num_seeds={wanted.num_seeds} needs the images on the device: use "
            "data.placement='device'."
        )
    for seed in _seeds(wanted):
        if seed != wanted.seed:
            data = loading.load(own, mesh, seed=seed, source=data.source)
        seeded = dataclasses.replace(wanted, seed=seed)
        phase = phases.build(seeded, section, data, mesh)
        each.append(Inputs(phase.key, phase.feed.arrays, _items(phase), data.eval_sets))

    def together(*leaves):
        return leaves[0] if _same(leaves) else jnp.stack(leaves)

    def axis(*leaves):
        return None if _same(leaves) else 0

    inputs, axes = (jax.tree.map(f, *each) for f in (together, axis))
    inputs = inputs._replace(key=jnp.stack([one.key for one in each]))
    return phase, inputs, axes._replace(key=0)


def _same(leaves):
    first = leaves[0]
    if jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
        return False
    return all(leaf is first or np.array_equal(leaf, first) for leaf in leaves[1:])


def _items(phase):
    """What all the phase's steps are sent: leaves [evaluations, eval_every, ...]."""
    calls = list(phase.feed.items(0, phase.section.steps))
    every = phase.section.eval_every

    def joined(*leaves):
        steps = np.concatenate([np.asarray(leaf) for leaf in leaves])
        return steps.reshape(len(steps) // every, every, *steps.shape[1:])

    return jax.tree.map(joined, *calls)


def _train(phase: Phase, inputs: Inputs):
    """One seed: the metrics of each row, leaves [E, ...] by the set that they are of,
    and how many evaluations there were."""
    section, algorithm = phase.section, phase.algorithm
    key_init, key_steps = jax.random.split(inputs.key)
    E = section.steps // section.eval_every
    first = jax.tree.map(lambda leaf: leaf[0, 0], inputs.items)
    batch = phase.feed.batch(inputs.arrays, first)
    state = algorithm.init(key_init, batch)
    _, shapes = jax.eval_shape(algorithm.train_step, state, batch, key_steps)
    no_sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def step(carry, item):
        state_and_sums = program.train_step(
            phase, phase.in_parts.train_step, key_steps, inputs.arrays, *carry, item
        )
        return state_and_sums, None

    def evaluated(state, sums):
        row = {"train": _kept(sums)}
        for name, batches in inputs.eval_sets.items():
            row[name] = _kept(_evaluate(algorithm, state, batches, inputs.key))
        return row

    def goes_on(carry):
        _, kept_E, evaluations = carry
        if not stopping.watches(section):
            return evaluations < E
        stale = stopping.stale(
            kept_E["val"]["accuracy"].value,
            kept_E["val"]["loss"].value,
            evaluations,
            **stopping.rules(section),
        )
        return (evaluations < E) & ~stale

    def until_evaluated(carry):
        state, kept_E, place = carry
        items = jax.tree.map(lambda leaf: leaf[place], inputs.items)
        (state, sums), _ = jax.lax.scan(step, (state, no_sums), items)
        row = evaluated(state, sums)
        kept_E = jax.tree.map(lambda of_E, leaf: of_E.at[place].set(leaf), kept_E, row)
        return state, kept_E, place + 1

    kept_E = jax.tree.map(
        lambda leaf: jnp.zeros((E, *leaf.shape), leaf.dtype),
        jax.eval_shape(evaluated, state, no_sums),
    )
    carry = state, kept_E, jnp.int32(0)
    _, kept_E, evaluations = jax.lax.while_loop(goes_on, until_evaluated, carry)
    return kept_E, evaluations


def _evaluate(algorithm, state, batches, key):
    keys = jax.random.split(key, len(batches))
    parts = [
        sums(algorithm, state, batch, key)[0]
        for batch, key in zip(batches, keys, strict=True)
    ]
    return jax.tree.map(lambda *leaves: sum(leaves), *parts)


def _kept(metrics):
    """Without what is too large to be kept of each evaluation: an EffectiveRank."""
    kept = {}
    for name, metric in metrics.items():
        if isinstance(metric, Average):
            kept[name] = Mean(metric.compute(), metric.count > 0)
        elif isinstance(metric, Calibration | ByClass):  # on the host alone
            kept[name] = metric
    return kept


def _at(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def _rows(phase, kept_E, evaluations):
    """The journal's rows of one seed, until it stopped."""
    rows = []
    for i in range(evaluations):
        values = logs.values(_at(kept_E, i))
        head = {"phase": phase.name, "step": (i + 1) * phase.section.eval_every}
        rows.append(head | {key: logs.nulled(value) for key, value in values.items()})
    return rows


def _check_finite(name, rows_of):
    for seed, rows in rows_of.items():
        for row in rows:
            if row.get("train/loss", 0.0) is None:
                raise UserError(
                    f"the loss of seed {seed} in phase {name!r} is not finite at step "
                    f"{row['step']}: lower the learning rate."
                )


def _result(wanted, device, facts, entries, resumed):
    """What result.json holds: the first seed's, with means in place of its test, the
    most and the least steps, and the fewest evaluations."""
    (section,), (first, *_) = wanted.sections, entries.values()
    steps = sorted(entry["steps"] for entry in entries.values())
    over = {"seeds": len(entries), "steps": steps[-1], "least_steps": steps[0]}
    over["stopped"] = "by seed" if steps[0] < steps[-1] else first["stopped"]
    for of in ("val", "test"):
        over[of] = dict(first[of])
        for figure in (key for key in first[of] if isinstance(first[of][key], float)):
            values = [entry[of][figure] for entry in entries.values()]
            over[of][figure] = float(np.mean(values))
            over[of][f"{figure}_std"] = float(np.std(values, ddof=1))
    if "evaluations" in first["test"]:
        each = [entry["test"]["evaluations"] for entry in entries.values()]
        over["test"]["evaluations"] = min(each)
    done = {section.name: first | over}
    result = results.of_run(wanted.config, device, facts, done, resumed)
    return result | {
        "seeds": [
            {"seed": seed, "phases": {section.name: entry}, "test": entry["test"]}
            for seed, entry in entries.items()
        ]
    }

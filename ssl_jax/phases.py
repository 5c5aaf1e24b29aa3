"""A phase built from its config and compiled for its devices, but not yet trained."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax import algorithms, augment, models, optimizers, workdirs
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, PyTree, TrainState, UserError
from ssl_jax.data import feeds
from ssl_jax.run_data import Data


class Phase(NamedTuple):
    """One phase, built and checked but not started."""

    name: str
    title: str  # the run's name and the phase's, for figures
    config: ConfigDict
    algorithm: Algorithm
    views: WeakStrong | TwoCrops | None  # None: the algorithm asks for none
    rate: optax.Schedule | None  # None: the algorithm has no optimizer
    feed: feeds.Feed
    key: jax.Array
    mesh: Mesh

    @property
    def images_per_step(self) -> int:
        drawn = self.config.batch_size * (1 + self.config.unlabeled_ratio)
        return drawn or self.feed.num_rows

    @property
    def rows(self) -> NamedSharding:
        """How a batch lies on the devices: split by rows, but a graph whole on each."""
        whole = self.algorithm.draws_from == "graph"
        return NamedSharding(self.mesh, P() if whole else P("data"))


def make_mesh(devices: list | None = None) -> Mesh:
    """All devices, or those given, on one axis, "data"."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )


def check_phase(config: ConfigDict, name: str, mesh: Mesh) -> None:
    """Everything about the phase `name` that can be told without the data.

    Raises:
      UserError: its configuration contradicts itself or the mesh.
    """
    phase = config[name]
    _check_numbers(phase, config.data.num_validation)
    _check_fields(phase.algorithm, algorithms.hparams(phase.algorithm.name))
    _check_fields(config.model, models.hparams(config.model.name))
    if config.model.dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"model.dtype={config.model.dtype!r} is unknown; choose float32 or "
            "bfloat16."
        )
    whole = algorithms.draws_from(phase.algorithm.name) in ("pool", "graph")
    on_graph = algorithms.draws_from(phase.algorithm.name) == "graph"
    if on_graph != models.on_graph(config.model.name):
        wanted = "a network on a graph, such as gcn" if on_graph else "an encoder"
        raise UserError(
            f"model.name={config.model.name!r}: {phase.algorithm.name} trains {wanted}."
        )
    if on_graph and phase.knn:
        raise UserError(f"knn={phase.knn} is for images: use 0 on a graph.")
    takes_model = algorithms.takes(phase.algorithm.name, "model")
    if phase.start_from != "scratch" and not takes_model:
        raise UserError(
            f"start_from={phase.start_from!r}: {phase.algorithm.name} has no network "
            "to take over; use 'scratch'."
        )
    if phase.batch_size < 1 and not whole:
        raise UserError(f"batch_size={phase.batch_size} must be at least 1.")
    if phase.batch_size and whole:
        raise UserError(
            f"batch_size={phase.batch_size}: a step of {phase.algorithm.name} sees all "
            "rows at once; use 0."
        )
    if phase.batch_size % mesh.size:
        raise UserError(
            f"batch_size={phase.batch_size} does not divide over {mesh.size} devices; "
            f"use a multiple of {mesh.size}."
        )
    feeds.check_placement(config.data.placement)
    if algorithms.takes(phase.algorithm.name, "tx"):
        _build_optimizer(phase)
    wanted, given = algorithms.views(phase.algorithm.name), dict(phase.augment)
    if given.get("name", "") != wanted:
        raise UserError(
            f"{phase.algorithm.name} trains on the views {wanted!r}, but "
            f"{name}.augment is {given.get('name', '')!r}: use "
            f"base.augmentation({wanted!r})."
        )
    if wanted:
        _check_fields(phase.augment, augment.hparams(wanted))
        augment.build(**phase.augment)
    if phase.patience and not algorithms.has(phase.algorithm.name, "predict"):
        raise UserError(
            f"patience={phase.patience} watches an accuracy, which "
            f"{phase.algorithm.name} has not: use patience=0."
        )
    draws_from = algorithms.draws_from(phase.algorithm.name)
    if draws_from != "labeled" and phase.unlabeled_ratio:
        raise UserError(
            f"{phase.algorithm.name} draws its images from the {draws_from}: "
            f"unlabeled_ratio={phase.unlabeled_ratio} must be 0."
        )


def build_phase(
    config: ConfigDict,
    name: str,
    data: Data,
    mesh: Mesh,
    labels: feeds.Labels | None = None,
) -> Phase:
    """Builds the phase `name`; starts nothing and writes nothing.

    Args:
      labels: of a phase with labels_from: what it trains on. Until an earlier phase has
        given them, the labels granted stand in, so that all else can be checked.

    Raises:
      UserError: the phase's configuration contradicts itself, the data or the mesh.
    """
    check_phase(config, name, mesh)
    phase = config[name]
    rate = tx = views = None
    if algorithms.takes(phase.algorithm.name, "tx"):
        rate, tx = _build_optimizer(phase)
    if phase.augment:
        views = augment.build(**phase.augment)
    num_classes = len(data.dataset.class_names)
    hparams = phase.algorithm.to_dict()
    algorithm = algorithms.build(
        hparams.pop("name"),
        hparams,
        model=models.build(num_classes=num_classes, **config.model),
        tx=tx,
        views=views,
        num_classes=num_classes,
        num_unlabeled=len(data.split.unlabeled),
        total_steps=phase.steps,
    )
    if phase.labels_from and labels is None:
        labels = feeds.granted(data.dataset, data.split)
    feed = feeds.build(
        data.dataset,
        data.split,
        data.pool,
        mesh=mesh,
        seed=config.seed,
        draws_from=algorithms.draws_from(phase.algorithm.name),
        batch_size=phase.batch_size,
        unlabeled_ratio=phase.unlabeled_ratio,
        steps_per_call=phase.steps_per_call,
        labels=labels,
        graph=data.graph,
    )
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    title = f"{config.name}, {name}"
    return Phase(name, title, phase, algorithm, views, rate, feed, key, mesh)


def _build_optimizer(phase):
    """(schedule, transformation) of a phase."""
    section = phase.optimizer
    if section.warmup_steps < 0:
        raise UserError(
            f"optimizer.warmup_steps={section.warmup_steps} must be at least 0."
        )
    rate = optimizers.schedule(
        section.schedule,
        learning_rate=optimizers.scaled(
            section.learning_rate, section.per_batch, phase.batch_size
        ),
        warmup_steps=section.warmup_steps,
        total_steps=phase.steps,
    )
    tx = optimizers.build(
        section.name,
        rate=rate,
        momentum=section.momentum,
        nesterov=section.nesterov,
        weight_decay=section.weight_decay,
        trust_coefficient=section.trust_coefficient,
    )
    return rate, tx


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

    def one_step(arrays, state, sums, item):
        return train_step(phase, key_steps, arrays, state, sums, item)

    def call(state, sums, arrays, items):
        # XLA:CPU runs a convolution inside a loop 20 to 50 times slower than outside.
        if jax.default_backend() == "cpu" and convolves:
            for i in range(phase.config.steps_per_call):
                state, sums = one_step(arrays, state, sums, at(items, i))
            return state, sums
        carry, _ = jax.lax.scan(
            lambda carry, item: (one_step(arrays, *carry, item), None),
            (state, sums),
            items,
        )
        return carry

    state = initialise(phase, initial)
    jaxpr, shapes = _trace_step(phase, state)
    convolves = "conv_general_dilated" in str(jaxpr)
    sums = jax.device_put(
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), replicated
    )
    compiled = (
        jax.jit(call, donate_argnums=(0, 1), out_shardings=replicated)
        .lower(state, sums, arrays, item)
        .compile()
    )
    return Program(state, sums, compiled, time.monotonic() - began)


def train_step(phase: Phase, key, arrays, state, sums, item):
    """One step of the phase, whose keys derive from `key`: (state, sums)."""
    batch = phase.feed.batch(arrays, item)
    key = jax.random.fold_in(key, state.step)
    state, metrics = phase.algorithm.train_step(state, batch, key)
    return state, jax.tree.map(jnp.add, sums, metrics)


def initialise(phase: Phase, initial: PyTree | None = None) -> TrainState:
    """The phase's state at step 0, inside `jax.set_mesh`."""
    replicated = NamedSharding(phase.mesh, P())
    init = jax.jit(_init_of(phase), out_shardings=replicated)
    return init(phase.feed.arrays, first_item(phase), initial)


def like(phase: Phase) -> PyTree:
    """A checkpoint of the phase without its values: {"state", "sums"} of shapes."""
    args = phase.feed.arrays, first_item(phase)
    state = jax.eval_shape(_init_of(phase), *args, None)
    replicated = NamedSharding(phase.mesh, P())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        {"state": state, "sums": _trace_step(phase, state)[1]},
    )


def check_handovers(phases: list[Phase]) -> None:
    """Finds before any training that a phase asks for a part that its predecessor
    will not have, or that does not fit.

    Raises:
      UserError: so it is.
    """
    variables = {}
    for phase in phases:
        start_from, keep = phase.config.start_from, phase.config.keep
        if start_from in variables:
            initial = workdirs.kept(variables[start_from], keep, start_from)
        else:
            initial = workdirs.handed_over(start_from, keep, Path(start_from))
        args = phase.feed.arrays, first_item(phase)
        state = jax.eval_shape(_init_of(phase), *args, initial)
        variables[phase.name] = {"params": state.params, **state.model_state}


def first_item(phase: Phase) -> PyTree:
    """What the phase's first call is sent."""
    return next(phase.feed.items(0, phase.config.steps_per_call))


def at(items: PyTree, i: int) -> PyTree:
    """Of what a call is sent, that of its step `i`."""
    return jax.tree.map(lambda leaf: leaf[i], items)


def _init_of(phase):
    key, _ = jax.random.split(phase.key)

    def init(arrays, item, initial):
        batch = phase.feed.batch(arrays, at(item, 0))
        return phase.algorithm.init(key, batch, initial)

    return init


def _trace_step(phase, state):
    """The jaxpr of a training step, and the shapes of its metrics."""

    def step(state, arrays, item):
        batch = phase.feed.batch(arrays, at(item, 0))
        return phase.algorithm.train_step(state, batch, phase.key)

    traced = jax.make_jaxpr(step, return_shape=True)
    try:
        jaxpr, (_, shapes) = traced(state, phase.feed.arrays, first_item(phase))
    except KeyError as error:
        if error.args != ("unlabeled_image",):
            raise
        raise UserError(
            f"{phase.config.algorithm.name} learns from unlabeled images too: "
            f"unlabeled_ratio={phase.config.unlabeled_ratio} must be at least 1."
        ) from error
    return jaxpr, shapes


def _check_fields(section: ConfigDict, defaults: dict) -> None:
    """A name given on the command line comes without the fields that belong to it."""
    fields = set(section) - {"name"}
    if fields != defaults.keys():
        raise UserError(
            f"{section.name!r} has the fields {', '.join(defaults)}, but the config "
            f"gives {', '.join(sorted(fields))}: choose it in a config file, by "
            "base.algorithm(), base.model() or base.augmentation()."
        )


def _check_numbers(phase: ConfigDict, num_validation: int) -> None:
    for name in (
        "steps",
        "steps_per_call",
        "log_every",
        "eval_every",
        "checkpoint_every",
    ):
        if phase[name] < 1:
            raise UserError(f"{name}={phase[name]} must be at least 1.")
        if name.endswith(("steps", "every")) and phase[name] % phase.steps_per_call:
            raise UserError(
                f"{name}={phase[name]} is not a multiple of "
                f"steps_per_call={phase.steps_per_call}."
            )
    for name, value in (
        ("unlabeled_ratio", phase.unlabeled_ratio),
        ("patience", phase.patience),
        ("knn", phase.knn),
        ("loss_window", phase.loss_window),
    ):
        if value < 0:
            raise UserError(f"{name}={value} must be at least 0.")
    for name in ("patience", "loss_window"):
        if phase[name] and not num_validation:
            raise UserError(
                f"{name}={phase[name]} needs validation images: set "
                f"data.num_validation, or {name}=0."
            )

"""The config, parsed once."""

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax import algorithms, augment, models
from ssl_jax.data import loading
from ssl_jax.data.splits import Split, candidates
from ssl_jax.errors import UserError
from ssl_jax.train.optimizers import _build_optimizer


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
    for mistake in loading.mistakes(config.data):
        raise UserError(mistake)
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


def check(config: ConfigDict, name: str, earlier: tuple[str, ...]) -> None:
    """Everything about where the phase `name` has its labels from that can be told
    without the data; `earlier` are the phases before it.

    Raises:
      UserError: no earlier phase can give them, or a number makes no sense.
    """
    phase = config[name]
    if not 0 <= phase.confidence <= 1:
        raise UserError(
            f"{name}.confidence={phase.confidence} is a probability: use 0 to 1."
        )
    if phase.per_class < 0:
        raise UserError(f"{name}.per_class={phase.per_class} must be at least 0.")
    if not phase.labels_from:
        for field in ("confidence", "per_class"):
            if phase[field]:
                raise UserError(
                    f"{name}.{field}={phase[field]} chooses among pseudo-labels, which "
                    f"{name} has not: name an earlier phase in {name}.labels_from, or "
                    f"set {field}=0."
                )
        return
    teachers = [
        other
        for other in earlier
        if "algorithm" in config[other]
        and algorithms.has(config[other].algorithm.name, "predict")
    ]
    if phase.labels_from not in teachers:
        raise UserError(
            f"{name}.labels_from={phase.labels_from!r} must be a phase that `phases` "
            "has before it and that trains a classifier "
            f"({', '.join(teachers) or 'there is none'}); or '' for no pseudo-labels."
        )
    if algorithms.draws_from(phase.algorithm.name) != "labeled":
        raise UserError(
            f"{name}.labels_from={phase.labels_from!r} labels images for "
            f"{phase.algorithm.name}, which does not draw its images from the labeled "
            "ones: use labels_from=''."
        )


def check_split(config: ConfigDict, name: str, split: Split) -> None:
    """Raises UserError unless there is an image to label for the phase `name`."""
    if not len(candidates(split)):
        raise UserError(
            f"{name}.labels_from={config[name].labels_from!r} has nothing to label: "
            f"all {len(split.unlabeled):,} unlabeled images are among the "
            f"{len(split.labeled):,} labeled ones; use a smaller data.num_labels."
        )


def on_graph(config: ConfigDict) -> bool:
    """Whether the run's phases learn from a graph.

    Raises:
      UserError: some do and some do not.
    """
    trained = [config[name] for name in config.phases if "algorithm" in config[name]]
    names = [phase.algorithm.name for phase in trained]
    graph = [name for name in names if algorithms.draws_from(name) == "graph"]
    if graph and len(graph) < len(names):
        raise UserError(
            f"{', '.join(graph)} learns from a graph, and the other phases from "
            "images: make them two runs."
        )
    return bool(graph)

"""Settings that a config leaves to the data: facts about them -> settings.

A configuration is parsed, and its mistakes are told, before any data are read; so what
follows from the data cannot stand in it. A config that wants that (configs/auto.py) has
a section `adapt`: fields, with the values that mean "not set". Before such a run begins
`to_data` finds the `Facts`; `settings` makes of them, and of nothing else, a value for
each field that is as it was; and both go into the configuration, the facts as
`adapted`. From there on it is an ordinary run: config.json has what it trains with,
modes that work on a run read that, and the same command in the same workdir comes by
the facts that it began with to the same settings, whatever has become of the data. A
field that the command line sets otherwise stays as it is set.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from ssl_jax import models
from ssl_jax.core import processes
from ssl_jax.data import loading, sources, splits
from ssl_jax.data.dataset import Dataset
from ssl_jax.train import sections
from ssl_jax.train.parts import BEGINNING, Run, Trains
from ssl_jax.workdir import logs
from ssl_jax.workdir.workdir import Workdir

HELD_OUT = 5  # of so many labels of a class one validates
# In all: on CIFAR-10 the loss of 10 images rose from the start, and ended each phase
# while the accuracy on others still grew.
FEWEST_HELD_OUT = 20
MOST_HELD_OUT = 1_000  # in all; a class has one nevertheless
# Steps for each label, and for each image where those without a label are learned from,
# at most: few are soon known by heart, and then the network is sure of all it says.
OF_A_LABEL, OF_AN_IMAGE = 4, 20
WARM_UP = 50  # steps, or a tenth of all
FEW_IMAGES = 100  # of fewer a small network learns as much
SMALL_SIDE = 16  # pixels; below them the network's first layer does not halve
# On an accelerator, of a thousand images and more: the papers' network and batches on
# CIFAR-10, and more steps, which take no longer there.
LARGE = 1_000
LARGE_NETWORK, LARGE_BATCH, MORE_STEPS = "wide_resnet", 64, 5


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of the data and the devices before a run begins, as JSON has it."""

    labels: tuple[int, ...]  # granted, of each class
    drawn: tuple[int, ...]  # of those, what may be held out: no answers of a CSV file
    images: int  # labeled or unlabeled
    unlabeled: int  # of the unlabeled set, which may have the labeled ones
    hidden: int  # of those, without a label that is granted
    validation: int  # images that validate already: a folder's own, or by a setting
    side: int  # pixels of the shorter side
    devices: int
    accelerated: bool  # they are no CPU


def to_data(
    config: Mapping[str, Any], path: Path, mesh: Mesh, dataset: Dataset | None = None
) -> tuple[Mapping[str, Any], Dataset | None]:
    """(the configuration with settings that fit the data, the data that were read for
    it); one without `adapt` as it is, and one that is adapted.

    Each setting is said in a line.

    Args:
      path: the workdir: the facts are those that a run there has begun with.
      dataset: images that are in memory already, instead of what the config names.

    Raises:
      UserError: a mistake in the configuration; the data cannot be had, or split.
    """
    if not config.get("adapt") or "adapted" in config:
        return config, dataset
    run = sections.parse(config)
    began_with = processes.of_first(lambda: _began_with(Workdir(path)))
    if began_with:
        facts = Facts(**began_with)
    else:
        dataset = sources.read(run.data) if dataset is None else dataset
        facts = of_data(run, dataset, mesh)
    values, said = settings(facts, run)
    for line in said:
        logs.say(f"{run.name}: {line}")
    values["adapted"] = dataclasses.asdict(facts)
    return sections.changed(run.config, values), dataset


def of_data(run: Run, dataset: Dataset, mesh: Mesh) -> Facts:
    """The facts about the data of a run, split as it would be.

    Raises:
      UserError: as `loading.granted`.
    """
    num_classes, before = len(dataset.class_names), dataset.labels_N
    dataset, split = loading.granted(run.data, dataset, seed=run.seed)

    def counts(labels_n):
        granted = labels_n[labels_n >= 0]  # not so of answers, before they are given
        return tuple(np.bincount(granted, minlength=num_classes).tolist())

    return Facts(
        labels=counts(dataset.labels_N[split.labeled]),
        drawn=counts(before[split.labeled]),
        images=len(np.union1d(split.labeled, split.unlabeled)),
        unlabeled=len(split.unlabeled),
        hidden=len(splits.candidates(split)),
        validation=len(split.validation),
        side=min(dataset.images_NHWC.shape[1:3]),
        devices=mesh.size,
        accelerated=mesh.devices.flat[0].platform != "cpu",
    )


def settings(facts: Facts, run: Run) -> tuple[dict[str, Any], list[str]]:
    """(values of fields that `run` leaves to the data, a line about each thing that
    they settle), a pure function."""
    values, said = {}, []
    for part in (_validation(facts, run), _network(facts, run), _phases(facts, run)):
        for given, line in part:
            free = {k: v for k, v in given.items() if _is_free(run.config, k)}
            values |= free
            if free or not given:
                said.append(line)
    return values, said


# Each a function: (facts, run) -> ({field: value}, what is said of it).
Settled = Iterator[tuple[dict[str, Any], str]]


def _validation(facts: Facts, run: Run) -> Settled:
    """What is held out; without any the phases do not stop by it."""
    held_out = _held_out(facts, run)
    if held_out:
        each = held_out // len(facts.drawn)
        yield (
            {"data.num_validation": held_out},
            f"{each} of each class's labels validate, {held_out} in all: a phase ends "
            "when the loss on them is stable",
        )
    elif not facts.validation:
        fixed = {f"{name}.loss_patience": 0 for name in run.trained}
        each = min(facts.drawn) // HELD_OUT
        fewest = min(facts.drawn)
        why = f"a class has {fewest} labels, and of each {HELD_OUT} one would"
        if each:
            why = (
                f"of {fewest} labels of a class {each} would, and "
                f"{each * len(facts.drawn)} in all are fewer than {FEWEST_HELD_OUT}"
            )
        if run.data.num_labels:
            why = f"data.num_labels={run.data.num_labels} are to learn from"
        yield (
            fixed,
            f"no label validates ({why}; data.num_validation holds more out): a phase "
            "has all its steps",
        )


def _network(facts: Facts, run: Run) -> Settled:
    """What fits the images' number and side, and the device."""
    if facts.accelerated and facts.images >= LARGE:
        begins = {field: run.config["model"][field] for field in BEGINNING}
        larger = {"name": LARGE_NETWORK, **models.hparams(LARGE_NETWORK), **begins}
        if _is_free(run.config, "model"):
            yield (
                {"model": larger},
                f"{LARGE_NETWORK} learns, on an accelerator and of {facts.images:,} "
                "images",
            )
        return
    smaller, why = {}, []
    if facts.images < FEW_IMAGES:
        filters = run.model.hparams.get("filters", ())
        smaller["filters"] = tuple(max(1, count // 2) for count in filters)
        why.append(f"there are {facts.images} images")
    if facts.side < SMALL_SIDE:
        smaller["stem_stride"] = 1
        why.append(f"they have {facts.side} pixels a side")
    if smaller:
        fields = ", ".join(f"{name}={value}" for name, value in smaller.items())
        model = run.config["model"] | smaller
        yield {"model": model}, f"the network has {fields}: {', and '.join(why)}"


def _phases(facts: Facts, run: Run) -> Settled:
    """Which phases there are, what a step of each sees, and how many it has."""
    left = [
        name for name, section in run.trained.items() if _batch(facts, run, section)
    ]
    if 0 < len(left) < len(run.trained):
        out = ", ".join(name for name in run.trained if name not in left)
        why = f"{facts.hidden:,} images have no label"
        yield {"phases": tuple(left)}, f"without {out}: {why}"
    for name in left:
        section = run.trained[name]
        batch, ratio = _batch(facts, run, section)
        more = f" + {ratio} x {batch} unlabeled" if ratio else ""
        steps = _steps(facts, section)
        if not _is_free(run.config, f"{name}.steps"):
            steps = section.steps
        given = {"batch_size": batch, "unlabeled_ratio": ratio, "steps": steps}
        given["optimizer.warmup_steps"] = min(WARM_UP, steps // 10)
        stops = section.loss_patience and (facts.validation or _held_out(facts, run))
        yield (
            {f"{name}.{field}": value for field, value in given.items()},
            f"{name} takes {batch}{more} images a step, and {steps:,} steps"
            + (" at most" if stops else ""),
        )
        if (most := facts.side // 8) < section.augment.get("shift", 0):
            yield (
                {f"{name}.augment.shift": most},
                f"{name} shifts images by {most} pixels, of {facts.side}",
            )


def _held_out(facts: Facts, run: Run) -> int:
    """Labels that are to validate, the same number of each class."""
    if facts.validation or run.data.num_labels:
        return 0
    each = max(1, MOST_HELD_OUT // len(facts.drawn))
    held_out = min(each, min(facts.drawn) // HELD_OUT) * len(facts.drawn)
    return held_out if held_out >= FEWEST_HELD_OUT else 0


def _batch(facts: Facts, run: Run, section: Trains) -> tuple[int, int] | None:
    """(batch_size, unlabeled_ratio) that the images and devices allow, at most what the
    section has; None where its method is to learn from unlabeled images, and they do
    not make a step."""
    size, ratio = section.batch_size, section.unlabeled_ratio
    if facts.accelerated and facts.images >= LARGE:
        size = max(size, LARGE_BATCH)
    size += -size % facts.devices
    if not ratio:
        return size, 0
    there = facts.unlabeled - _held_out(facts, run)
    ratio = min(ratio, max(1, there // size))
    size = min(size, there // facts.devices * facts.devices)
    fewest = max(facts.devices, section.method.least_batch)
    return (size, ratio) if facts.hidden and size >= fewest else None


def _steps(facts: Facts, section: Trains) -> int:
    """Whole evaluations, at least one."""
    large = facts.accelerated and facts.images >= LARGE
    steps = section.steps * MORE_STEPS if large else section.steps
    every = section.eval_every
    most = OF_A_LABEL * sum(facts.labels)
    if section.unlabeled_ratio:
        most = OF_AN_IMAGE * facts.images
    fitting = -(-most // every) * every
    return min(steps, max(every, fitting))


def _is_free(config: Mapping, field: str) -> bool:
    """Whether `adapt` has the field, and it is as it stands there."""
    at, before = config, config["adapt"]
    for name in field.split("."):
        if name not in before:
            return False
        at, before = at[name], before[name]
    return at == before


def _began_with(workdir: Workdir) -> dict | None:
    config = workdir.config if workdir.begun else None
    return (config or {}).get("adapted")

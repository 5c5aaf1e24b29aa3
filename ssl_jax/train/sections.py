"""The config, parsed once: typed, frozen, and checked as far as that goes without data.

`parse` is the only reader of a configuration. What it returns holds classes, optimizers
and views, not their names. A function here that reads a part yields a message for each
mistake in it and returns the part, so that `parse` tells of all mistakes at once.
"""

import dataclasses
import os
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import jax

from ssl_jax import algorithms, augment, models
from ssl_jax.core import can, named, ranges
from ssl_jax.data import loading, sources
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import Protocol
from ssl_jax.train import optimizers, rules
from ssl_jax.train.optimizers import Optimizer
from ssl_jax.train.parts import (
    BEGINNING,
    Ablate,
    Model,
    Predict,
    Probes,
    Query,
    Run,
    Trains,
    Tree,
    Tune,
)
from ssl_jax.workdir.settings import trains

# Set in XLA_FLAGS before JAX starts, it makes a GPU's results repeat bit for bit.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

Part = TypeVar("Part")
Reading = Generator[str, None, Part]  # yields mistakes, returns what was read


def parse(config: Tree, num_devices: int = 1, *, to_train: bool = True) -> Run:
    """The run that a configuration asks for.

    Args:
      config: an ml_collections.ConfigDict that configs/base.py made, or the like of it
        as a dict.
      num_devices: that batches are split over.
      to_train: whether it is to be trained, and not only asked: then what it starts
        from must be there.

    Raises:
      UserError: with every mistake in it that can be told without data.
    """
    tree = config.to_dict() if hasattr(config, "to_dict") else config
    return told(_run(tree, num_devices, to_train))


def told(reading: Reading[Part]) -> Part:
    """What is read, if there is no mistake in it.

    Raises:
      UserError: with all that there are.
    """
    mistakes = []
    while True:
        try:
            mistakes.append(next(reading))
        except StopIteration as end:
            part = end.value
            break
    mistakes = list(dict.fromkeys(mistakes))  # two phases may share one
    if len(mistakes) == 1:
        raise UserError(*mistakes)
    if mistakes:
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise UserError(f"{len(mistakes)} mistakes in the configuration:\n{lines}")
    return part


def changed(config: Tree, values: Mapping[str, Any]) -> dict:
    """A copy of the configuration with other values: {"data.labels": "a.csv"}."""
    copy = dict(config)
    for field, value in values.items():
        head, _, rest = field.partition(".")
        copy[head] = changed(copy[head], {rest: value}) if rest else value
    return copy


def check_query(query: Query, num_candidates: int | None = None) -> None:
    """Raises UserError unless the strategy is known and so many can be asked about."""
    told(rules.query(query))
    if num_candidates is not None and query.size > num_candidates:
        raise UserError(
            f"query.size={query.size}, but {num_candidates:,} images have no label: "
            "ask for no more than those."
        )


def probes(tree: Tree, name: str, trained: Mapping[str, Any]) -> Reading[Probes]:
    """The section `name`, which judges one of the phases `trained`."""
    section = dict(tree[name])
    start_from = section.pop("start_from", "")
    if start_from not in trained:
        yield (
            f"{name}.start_from={start_from!r} must be an earlier phase of this run "
            f"that trains ({', '.join(trained) or 'there is none'}); to probe another "
            "run: launch.py --mode=probe --workdir=W."
        )
    fields = {field.name for field in dataclasses.fields(Protocol)}
    if section.keys() != fields:
        yield f"{name}: a probe has the fields {', '.join(sorted(fields))}."
        return None
    protocol = Protocol(**section)
    yield from rules.probe(protocol, name)
    judged = trained.get(start_from)
    if judged is not None and not can(judged.method, "features"):
        yield f"{name}: {judged.algorithm} learns no features to probe."
    return Probes(name=name, start_from=start_from, protocol=protocol)


def phase_names(tree: Tree) -> list[str]:
    """The sections that `phases` may name: each starts from something."""
    return [
        name
        for name, section in tree.items()
        if isinstance(section, Mapping) and "start_from" in section
    ]


def probe_of(run: Run) -> Probes | None:
    """The first section that probes, whether `phases` has it or not.

    Raises:
      UserError: a mistake in it.
    """
    for name in phase_names(run.config):
        if not trains(run.config[name]):
            return told(probes(run.config, name, run.trained))
    return None


def _run(tree, num_devices, to_train):
    given = yield from _top(tree, to_train)
    data = yield from _typed(Wanted, tree, "data")
    if data is not None:
        yield from loading.mistakes(data)
    query = yield from _typed(Query, tree, "query")
    if query is not None:
        yield from rules.query(query)
    predict = yield from _typed(Predict, tree, "predict")
    ablate = yield from _typed(Ablate, tree, "ablate")
    if ablate is not None:
        yield from ranges.mistakes(Ablate, vars(ablate), "ablate")
    tune = yield from _typed(Tune, tree, "tune")
    if tune is not None:
        yield from rules.tune(tune)
    model = yield from _model(tree, to_train)
    sections = {}
    for name in (yield from _phases(tree)):
        sections[name] = yield from _section(
            tree, name, sections, num_devices, to_train
        )
    typed = (data, query, predict, ablate, tune, model)
    if None in (*typed, given, *sections.values()):
        return None
    run = Run(
        **given,
        data=data,
        query=query,
        predict=predict,
        ablate=ablate,
        tune=tune,
        model=model,
        sections=tuple(sections.values()),
        config=tree,
    )
    yield from rules.between_phases(run)
    return run


def _section(tree, name, earlier, num_devices, to_train):
    """The section `name`, after the sections `earlier`."""
    trained = {n: section for n, section in earlier.items() if trains(tree[n])}
    if not trains(tree[name]):
        return (yield from probes(tree, name, trained))
    section = yield from _trains(tree, name, num_devices)
    if section is not None:
        yield from rules.beginning(section, earlier, trained, to_train)
    return section


def _top(tree, to_train):
    names = ("name", "seed", "num_seeds", "accumulate", "deterministic")
    names += ("cpu_devices", "tensorboard", "profile", "policy")
    if missing := [name for name in names if name not in tree]:
        yield _of_another_version("the configuration", missing)
        return None
    yield from ranges.mistakes(Run, {name: tree[name] for name in names})
    on_gpu = to_train and tree["deterministic"] and jax.default_backend() == "gpu"
    if on_gpu and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        yield (
            f"deterministic=True needs XLA_FLAGS to hold {DETERMINISTIC} before JAX "
            "starts."
        )
    return {name: tree[name] for name in names}


def _typed(cls, tree, name):
    """The section `name` as a dataclass of the same fields."""
    fields = {field.name for field in dataclasses.fields(cls)}
    section = tree.get(name, {})
    if unlike := sorted(fields ^ section.keys()):
        yield _of_another_version(name, unlike)
        return None
    return cls(**section)


def _in_range(declared, section, at):
    """Whether every number of a section is one that its field may have."""
    mistakes = list(ranges.mistakes(declared, section, at))
    yield from mistakes
    return not mistakes


def _of_another_version(where, fields):
    return (
        f"{where} differs in {', '.join(fields)}: the configuration was written by "
        "another version of ssl_jax; train it again with this one."
    )


def _tried(at: str, build: Callable[..., Part], *args, **kwargs) -> Reading[Part]:
    """What `build` gives; where it refuses, None, and its message, which begins with a
    field, is the mistake: behind where in the configuration that field is."""
    try:
        return build(*args, **kwargs)
    except UserError as error:
        yield f"{at}{error}"
        return None


def _phases(tree):
    """The names of the phases, in order."""
    names, there = tuple(tree["phases"]), phase_names(tree)
    if not names:
        yield f"phases is empty; name some of: {', '.join(there)}."
    elif unknown := [name for name in names if name not in there]:
        yield (
            f"phases names {', '.join(map(repr, unknown))}, which this config does "
            f"not have; it has: {', '.join(there)}."
        )
        return ()
    elif len(set(names)) < len(names):
        yield f"phases={names} names a phase twice."
    return names


def _model(tree, to_train):
    section = dict(tree["model"])
    name = section.pop("name")
    if missing := [field for field in BEGINNING if field not in section]:
        yield _of_another_version("model", missing)
        return None
    begins = {field: section.pop(field) for field in BEGINNING}
    fields = yield from _tried("model.name=", models.hparams, name)
    if fields is None or not (yield from _same_fields(name, section, fields)):
        return None
    sound = True
    for declared in models.declare(name):
        sound &= yield from _in_range(declared, section, "model")
    if section["dtype"] not in ("float32", "bfloat16"):
        yield (
            f"model.dtype={section['dtype']!r} is unknown; choose float32 or bfloat16."
        )
    elif sound:
        yield from _tried("", models.build, name, num_classes=1, **section)
    model = Model(name=name, hparams=section, **begins)
    yield from rules.weights(model, to_train)
    return model


def _same_fields(name, given, defaults):
    """Whether a section has the fields of the class that it names."""
    same = given.keys() == defaults.keys()
    if not same:
        yield (
            f"{name!r} has the fields {', '.join(defaults)}, but the config gives "
            f"{', '.join(sorted(given))}: choose it by its name on the command line, "
            "or in a config file by base.algorithm(), base.model() or "
            "base.augmentation()."
        )
    return same


def _trains(tree, name, num_devices):
    """The phase `name`."""
    section = {"algorithm": {}, "optimizer": {}, **tree[name]}
    hparams, optimizer = dict(section.pop("algorithm")), section.pop("optimizer")
    fields = {field.name for field in dataclasses.fields(Trains)}
    fields -= {"name", "algorithm", "method", "hparams", "rate", "tx", "views"}
    if unlike := sorted(fields ^ section.keys()):
        yield _of_another_version(name, unlike)
        return None
    algorithm = hparams.pop("name")
    method = yield from _tried(f"{name}.algorithm.name=", algorithms.find, algorithm)
    if method is None:
        return None
    phase = Trains(
        **section,
        name=name,
        algorithm=algorithm,
        method=method,
        hparams=hparams,
        **dict.fromkeys(("rate", "tx", "views")),
    )
    if (yield from _same_fields(algorithm, hparams, named.defaults(method))):
        if (yield from _in_range(method, hparams, f"{name}.algorithm")):
            yield from _tried(f"{name}.algorithm.", _stand_in, phase)
    yield from rules.numbers(phase, _may_validate(tree))
    yield from rules.batches(phase, num_devices, tree.get("accumulate", 1))
    if algorithms.takes(method, "tx"):
        rate, tx = (yield from _optimizer(phase, optimizer)) or (None, None)
        phase = dataclasses.replace(phase, rate=rate, tx=tx)
    phase = dataclasses.replace(phase, views=(yield from _views(phase)))
    yield from rules.views(phase)
    return phase


def _may_validate(tree):
    """Whether there are images to validate on, as far as that is known without data:
    somebody's own may have some (`run.check_validation`), or what `adapt` settles."""
    own = sources.may_change(tree["data"].get("name", ""))
    return bool(tree["data"].get("num_validation", 0) or own or tree.get("adapt"))


def _optimizer(phase, section):
    """(learning rate as a function of the step, transformation); None with mistakes."""
    at = f"{phase.name}.optimizer"
    fields = {field.name for field in dataclasses.fields(Optimizer)}
    if unlike := sorted(fields ^ section.keys()):
        yield _of_another_version(at, unlike)
        return None
    sound = yield from _in_range(Optimizer, section, at)
    if not sound or phase.steps < 1:  # else no schedule fits
        return None
    return (
        yield from _tried(
            f"{phase.name}.",
            optimizers.of_phase,
            Optimizer(**section),
            batch_size=phase.batch_size,
            total_steps=phase.steps,
        )
    )


def _stand_in(phase):
    """Builds the method without what data gives: it checks its hyper-parameters."""
    context = ("model", "tx", "views", "total_steps")
    context += ("num_classes", "num_labeled", "num_unlabeled")
    context += ("labeled_K", "granted_K")
    algorithms.build(phase.method, phase.hparams, **dict.fromkeys(context))


def _views(phase):
    settings, wanted = dict(phase.augment), phase.method.views_kind
    kind = settings.pop("name", "")
    if kind != wanted:
        yield (
            f"{phase.algorithm} trains on the views {wanted!r}, but "
            f"{phase.name}.augment is {kind!r}: use base.augmentation({wanted!r})."
        )
    elif kind and (yield from _same_fields(kind, settings, augment.hparams(kind))):
        declared, at = augment.find(kind).build, f"{phase.name}.augment"
        if (yield from _in_range(declared, settings, at)):
            return (
                yield from _tried(f"{phase.name}.", augment.build, kind, **settings)
            )
    return None

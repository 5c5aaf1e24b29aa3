"""Which settings a search may choose, and what else goes with a choice.

Fields are those of a phase's section, "optimizer.weight_decay" of "train"; but
"model.dropout" is the run's, whose phases share a network.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ssl_jax import algorithms, models
from ssl_jax.algorithms.fixmatch import FixMatch
from ssl_jax.core import named
from ssl_jax.train import optimizers
from ssl_jax.train.parts import Trains


class Number(NamedTuple):
    """A number from `low` to `high`; `log`: each factor is as likely as any other."""

    low: float
    high: float
    log: bool = False


class Choice(NamedTuple):
    """One of some values, the config's own first."""

    values: tuple


Space = dict[str, Number | Choice]

# Of a learning rate, the rate of the lowest loss of a range test divided by these.
SLOWEST, USUAL, FASTEST = 50.0, 10.0, 2.0
AROUND = 3.0  # the config's own rate, above and below
LENGTH = Number(0.5, 2.0, log=True)  # in units of the config's own steps
_OPTIMIZERS = ("sgd", "adam")
_STRONG = ("randaugment_google", "randaugment_torchssl", "none")
_RATIOS = (1, 2, 4, 7)
_MIXED = {"mixup_alpha": (0.0, 0.2), "cutmix_alpha": (0.0, 1.0)}


def numbers(section: Trains, config: Mapping) -> Space:
    """What one program can try: numbers that it is given."""
    own, optimizer = config[section.name], config[section.name]["optimizer"]
    space = {"optimizer.weight_decay": Number(1e-5, 5e-3, log=True)}
    if optimizer["name"] in _OPTIMIZERS:
        space["optimizer.momentum"] = Number(0.8, 0.98)
    if "threshold" in own["algorithm"]:
        space["algorithm.threshold"] = Number(0.6, 0.98)
    if weight := own["algorithm"].get("unlabeled_weight"):
        # Methods' own are from 1 to 100: what matters is how far from that.
        space["algorithm.unlabeled_weight"] = Number(weight / 4, weight * 4, log=True)
    if "label_smoothing" in own["algorithm"]:
        space["algorithm.label_smoothing"] = Number(0.0, 0.2)
    if "strength" in own["augment"] and _uses_strong(section):
        space["augment.strength"] = Number(0.1, 1.0)
    if models.Classifier in models.declare(config["model"]["name"]):
        space["model.dropout"] = Number(0.0, 0.5)
    return space


def of_run(values: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """By the run's fields: "train.steps" of the phase "train"."""
    return {
        field if _of_network(field) else f"{phase}.{field}": value
        for field, value in values.items()
    }


def of_network(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are the network's, of a run, a phase or a space."""
    return {field: of for field, of in fields.items() if _of_network(field)}


def programs(
    section: Trains, config: Mapping, *, methods: Sequence[str], most_unlabeled: int
) -> Space:
    """What needs a program of its own for each choice; no field with one choice.

    Args:
      methods: words, as in the section `tune`.
      most_unlabeled: unlabeled images that there are for each labeled one of a step.
    """
    own = config[section.name]
    algorithm, augment = own["algorithm"], own["augment"]
    space = {
        "optimizer.name": _choice(own["optimizer"]["name"], _OPTIMIZERS),
        "algorithm.name": Choice(_methods(section, methods)),
    }
    if section.method.needs_unlabeled:
        fits = [ratio for ratio in _RATIOS if ratio <= most_unlabeled]
        space["unlabeled_ratio"] = Choice(_first(section.unlabeled_ratio, fits))
    if "strong" in augment and _uses_strong(section):
        space["augment.strong"] = _choice(augment["strong"], _STRONG)
    for field, tried in _MIXED.items():
        # Of one image, which half a small batch may be, there is nothing to mix.
        if field in algorithm and section.batch_size >= 4:
            space[f"algorithm.{field}"] = Choice(_first(algorithm[field], tried))
    return {field: choice for field, choice in space.items() if len(choice.values) > 1}


def optimizers_beside(own: str) -> tuple[str, ...]:
    """`own`, and what may be tried in its place."""
    return _choice(own, _OPTIMIZERS).values


def rates(lowest: float, own: float) -> Number:
    """Learning rates to choose from, by the rate at which a range test's loss was
    lowest, and around `own`: where BatchNorm or Adam take any rate for so few steps,
    a test finds one far above what a training takes."""
    low, high = lowest / SLOWEST, lowest / FASTEST
    return Number(min(low, own / AROUND), max(high, own * AROUND), log=True)


def rate(section: Trains, config: Mapping) -> float:
    """The config's own learning rate, at its highest."""
    own = config[section.name]["optimizer"]
    return optimizers.scaled(own["learning_rate"], own["per_batch"], section.batch_size)


def values(chosen: Mapping[str, Any], section: Trains, config: Mapping) -> dict:
    """What a choice changes in the phase's section, as `bench.Bench.changed` takes it;
    of another method the whole section "algorithm": fields that both have as they are
    (but a threshold, which each has its own of), and of the numbers chosen those that
    it has.

    Args:
      chosen: a value for each field of a space; "learning_rate.sgd" is that of the
        optimizer "sgd".
    """
    chosen, own = dict(chosen), config[section.name]
    optimizer = chosen.get("optimizer.name", own["optimizer"]["name"])
    for field in [field for field in chosen if field.startswith("learning_rate.")]:
        rate = chosen.pop(field)
        if field == f"learning_rate.{optimizer}":
            # It is for this batch size.
            chosen |= {"optimizer.learning_rate": rate, "optimizer.per_batch": 0}
    if chosen.get("augment.strong", own["augment"].get("strong")) == "none":
        chosen.pop("augment.strength", None)  # of nothing
    before, name = own["algorithm"], chosen.get("algorithm.name")
    if name in (None, before["name"]):
        return chosen
    fresh = named.defaults(algorithms.find(name))
    shared = {f: v for f, v in before.items() if f in fresh and f != "threshold"}
    algorithm = {**fresh, **shared, "name": name}
    for field in [field for field in chosen if field.startswith("algorithm.")]:
        value, of_method = chosen.pop(field), field.removeprefix("algorithm.")
        if of_method in algorithm:
            algorithm[of_method] = value
    return {**chosen, "algorithm": algorithm}


def lengthened(
    given: Mapping[str, Any], steps: int, section: Trains, config: Mapping
) -> dict:
    """Settings with another number of steps, and what counts steps with it: the
    warm-up, and what a method calls so many steps."""
    own, part = config[section.name], steps / section.steps
    given = {**given, "steps": steps}
    if steps == section.steps:
        return given
    counted = {
        field: max(round(value * part), 1)
        for field, value in given.get("algorithm", own["algorithm"]).items()
        if field.endswith("_steps") and value
    }
    if "algorithm" in given:
        given["algorithm"] = given["algorithm"] | counted
    else:
        given |= {f"algorithm.{field}": value for field, value in counted.items()}
    if warmup := own["optimizer"]["warmup_steps"]:
        given["optimizer.warmup_steps"] = math.floor(warmup * part)
    return given


def _of_network(field):
    return field.startswith("model.")


def _methods(section, words):
    """Their names, where the phase's own is FixMatch or another of its thresholds."""
    if not issubclass(section.method, FixMatch):
        return (section.algorithm,)
    named_so = [algorithms.method(word) for word in words]
    alike = [name for name in named_so if issubclass(algorithms.find(name), FixMatch)]
    return _first(section.algorithm, alike)


def _uses_strong(section):
    return section.method.needs_unlabeled or section.hparams.get("strong", False)


def _choice(own, values):
    """Of one that is not among them there is no other."""
    return Choice(_first(own, values) if own in values else (own,))


def _first(own, values):
    return (own, *(value for value in values if value != own))

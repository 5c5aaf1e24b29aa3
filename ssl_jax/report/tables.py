"""Runs compared: test errors by method, Welch's test, and what was published.

A column of a table is a data set and a number of labels; what stands in it may be set
side by side. `ssl_jax.report` writes the rows that `compare` makes, and is the program.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import scipy  # scipy.stats is loaded when it is first asked for

from ssl_jax.errors import UserError
from ssl_jax.workdir import settings
from ssl_jax.workdir.results import read_json

MEDIAN_OF = 20  # evaluations, or all where there were fewer
FIGURES = {  # of a result's "test" -> the checkpoint that was judged
    "accuracy": "the last checkpoint",
    "accuracy_median20": f"the median of the last {MEDIAN_OF} evaluations",
    "accuracy_best_on_test": "the best checkpoint on the test set, an oracle",
    "balanced_accuracy": "the last checkpoint",
    "geometric_mean": "the last checkpoint",
    "f1": "the last checkpoint",
}
# Those in which each class counts alike, of runs some of whose classes were made rarer:
# what they are called. They are told as they are, where of the others errors are.
BY_CLASS = {
    "balanced_accuracy": "balanced accuracy",
    "geometric_mean": "geometric mean of the classes' accuracies",
    "f1": "mean F1 of the classes",
}
BASELINE = "fixmatch"
# Words in a config's name that mean the same for every method, so that runs with them
# are a column of their own. Others, such as "cta", tell methods apart.
SETTINGS = ("torchssl", "lt", "small", "debug")
# What configs are named after; with :debug, digits stand in for it.
DATA_SETS = ("digits", "mnist", "cifar10", "cifar100", "svhn", "stl10", "imagenette")

ENTRY = {"figure", "error", "source", "steps"}  # one of FIGURES, %; also "std", %
# data set -> method -> number of labels -> entries
Published = Mapping[str, Mapping[str, Mapping[str, Sequence[Mapping]]]]


class Row(NamedTuple):
    """One method in one column, by one figure."""

    method: str  # "fixmatch", "fixmatch_cta"
    data: str  # "cifar10", or with its setting "cifar10_small"; see `imbalance`
    labels: int  # 0: all there are
    figure: str  # one of FIGURES
    seeds: tuple[int, ...]
    errors: tuple[float, ...]  # in %, one for each seed: 100 - the figure
    steps: int  # of the shortest seed, summed over its phases
    evaluations: int  # of the seed that had fewest
    baseline: str  # the method that `difference` and `p` are against
    difference: float | None = (
        None  # of the mean errors, in points; < 0: this is better
    )
    p: float | None = None  # Welch's, two-sided, by Holm over the column's methods
    published: tuple[Mapping, ...] = ()  # of the same figure: entries of `Published`
    published_steps: int = 0  # the most that any figure was published with

    @property
    def mean(self) -> float:
        return statistics.fmean(self.errors)

    @property
    def std(self) -> float | None:
        """Of the sample; None of one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


def read_published(path: str | Path) -> Published:
    """`Published` from a JSON file.

    Raises:
      UserError: it is not there, or is not of that form.
    """
    try:
        published = read_json(Path(path))
        entries = [
            (f"{data}, {method}, {labels}", entry)
            for data, methods in published.items()
            for method, columns in methods.items()
            for labels, entries in columns.items()
            for entry in entries
        ]
        lacking = [ENTRY - entry.keys() for _, entry in entries]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"{path} must be data set -> method -> labels -> list of entries, as in "
            "experiments/papers/published.json."
        ) from error
    for (here, entry), missing in zip(entries, lacking, strict=True):
        if missing:
            raise UserError(
                f"{path}: an entry of {here} has no {', '.join(sorted(missing))}."
            )
        for field in {"error", "std", "steps"} & entry.keys():
            if not isinstance(entry[field], int | float):
                raise UserError(
                    f"{path}: {here}: {field}={entry[field]!r} must be a number."
                )
        if entry["figure"] not in FIGURES:
            raise UserError(
                f"{path}: {here}: figure {entry['figure']!r} is none of "
                f"{', '.join(FIGURES)}."
            )
    return published


def compare(
    results: Iterable[dict],
    baseline: str = BASELINE,
    published: Published | None = None,
    figures: Sequence[str] = tuple(FIGURES),
) -> list[Row]:
    """A row for each figure, column and method, methods in the order of the results.

    Results without a figure, such as probes have, are left out of it.

    Raises:
      UserError: `group`'s.
    """
    groups, rows = group(results), []
    for figure in figures:
        for column in sorted({column for column, _ in groups}):
            of_column = [
                _row(method, column, figure, runs, baseline, published or {})
                for (at, method), runs in groups.items()
                if at == column and any(has(run, figure) for run in runs)
            ]
            rows += _tested(of_column, baseline)
    return rows


def group(results: Iterable[dict]) -> dict[tuple[tuple[str, int], str], list[dict]]:
    """((data, labels), method) -> its results, by seed.

    Raises:
      UserError: two of one group differ in more than their seed, or not even in that.
    """
    groups = {}
    for result in results:
        method, data = method_and_data(result["config"])
        column = data, num_labels(result)
        groups.setdefault((column, method), []).append(result)
    for ((data, labels), method), runs in groups.items():
        runs.sort(key=lambda run: run["seed"])
        where = f"{method} on {data} with {labels} labels"
        for one, other in zip(runs, runs[1:], strict=False):
            a, b = _decisive(one), _decisive(other)
            for field in sorted(a.keys() | b.keys()):
                ours, its = a.get(field, "absent"), b.get(field, "absent")
                if ours != its:
                    raise UserError(
                        f"{where} is of two configurations: {field} = {ours} with seed "
                        f"{one['seed']}, {its} with seed {other['seed']}; leave one of "
                        "them out, or train one by another config.name."
                    )
            if one["seed"] == other["seed"]:
                raise UserError(
                    f"{where} has two results of seed {one['seed']}; leave one out."
                )
    return groups


def num_labels(result: Mapping) -> int:
    """How many it was trained with, 0: all there are; of a simulation of active
    learning, in its last round."""
    if "rounds" in result:
        return result["rounds"][-1]["labels"]
    return result["config"]["data"]["num_labels"]


def method_and_data(config: Mapping) -> tuple[str, str]:
    """Of "fixmatch_cifar10_cta_small": ("fixmatch_cta", "cifar10_small").

    fixmatch_cifar10 on other data than it is named after: ("fixmatch_cifar10", theirs).
    With `imbalance`, that is the last of the column's words.
    """
    words, data = config["name"].split("_"), config["data"]["name"]
    known = {re.split("[_/:]", data)[0], *(DATA_SETS if "debug" in words else ())}
    data = next((word for word in words if word in known), data)
    method = [word for word in words if word != data and word not in SETTINGS]
    settings = [word for word in words if word in SETTINGS]
    settings += filter(None, [imbalance(config)])
    return "_".join(method) or config["name"], "_".join([data, *settings])


def imbalance(config: Mapping) -> str:
    """ "exponential100", or "step20to1" where the unlabeled images have another gamma;
    "": no class was made rarer."""
    data = config["data"]
    if not data.get("imbalance"):
        return ""
    labeled, unlabeled = data["gamma_labeled"], data["gamma_unlabeled"]
    apart = "" if labeled == unlabeled else f"to{unlabeled:g}"
    return f"{data['imbalance']}{labeled:g}{apart}"


def has(result: Mapping, figure: str) -> bool:
    """Whether it is told by this one of FIGURES."""
    told = figure not in BY_CLASS or imbalance(result["config"]) != ""
    return told and figure in result["test"]


def welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    """p of the two-sided t-test that allows for unequal variances; None if a side has
    one value, or neither side's values differ."""
    if min(len(a), len(b)) < 2:
        return None
    sides = [(statistics.fmean(x), statistics.stdev(x), len(x)) for x in (a, b)]
    if sides[0][1] == sides[1][1] == 0:
        return None
    # Not ttest_ind, the same test, which warns where one side's values are all equal.
    test = scipy.stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False)
    return float(test.pvalue)


def paired(a: Sequence[float], b: Sequence[float]) -> float | None:
    """p of the two-sided t-test of the differences, one of each pair; None of one pair,
    or where no difference differs from another."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    # Of differences alike up to rounding a test would be certain.
    if len(differences) < 2 or statistics.stdev(differences) < 1e-12:
        return None
    n = len(differences)
    t = statistics.fmean(differences) / (statistics.stdev(differences) / n**0.5)
    return float(2 * scipy.stats.t.sf(abs(t), n - 1))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted for their number (Holm, 1979): of m, the i-th smallest
    (i = 0, ...) times m - i, at least the one before it and at most 1. None, where
    nothing could be tested, stays so and is none of the m."""
    adjusted, highest = list(ps), 0.0
    tested = [k for k, p in enumerate(ps) if p is not None]
    for i, k in enumerate(sorted(tested, key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(tested) - i) * ps[k]))
        adjusted[k] = highest
    return adjusted


def paired_by_seed(
    pairs: Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]],
) -> dict[str, tuple[list[float], float | None]]:
    """Of each pair of runs, {seed: value} both: how far the first is above the second
    with each seed that both have, and p of that (`paired`), corrected by Holm over the
    pairs. A pair without such a seed is left out."""
    shared = {}
    for name, (a, b) in pairs.items():
        if seeds := sorted(a.keys() & b.keys()):
            shared[name] = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    ps = holm([paired(*both) for both in shared.values()])
    return {
        name: ([x - y for x, y in zip(*both, strict=True)], p)
        for (name, both), p in zip(shared.items(), ps, strict=True)
    }


def steps(result: Mapping) -> int:
    """Optimizer steps of all phases."""
    return sum(phase.get("steps", 0) for phase in result["phases"].values())


def seconds(phases: Iterable[Mapping]) -> float:
    """That phases took, compiling included: the tables' minutes."""
    return sum(phase["seconds"] + phase.get("compile_seconds", 0) for phase in phases)


def _row(method, column, figure, runs, baseline, published):
    runs = [run for run in runs if has(run, figure)]
    data, labels = column
    # TorchSSL's settings are a paper's as well; no paper has the small ones.
    table = published.get(data.removesuffix("_torchssl"), {})
    entries = table.get(method, {}).get(str(labels), ())
    return Row(
        method=method,
        data=data,
        labels=labels,
        figure=figure,
        seeds=tuple(run["seed"] for run in runs),
        errors=tuple(100 * (1 - run["test"][figure]) for run in runs),
        steps=min(map(steps, runs)),
        evaluations=min(run["test"].get("evaluations", MEDIAN_OF) for run in runs),
        baseline=baseline,
        published=tuple(entry for entry in entries if entry["figure"] == figure),
        published_steps=max((entry["steps"] for entry in entries), default=0),
    )


def _tested(rows, baseline):
    """The rows of one column against its baseline, if that is there."""
    against = next((row for row in rows if row.method == baseline), None)
    if against is None:
        return rows
    others = [row for row in rows if row.method != baseline]
    ps = {row.method: welch(row.errors, against.errors) for row in others}
    corrected = dict(zip(ps, holm([*ps.values()]), strict=True))
    gaps = {row.method: row.mean - against.mean for row in others}
    return [
        row._replace(difference=gaps.get(row.method), p=corrected.get(row.method))
        for row in rows
    ]


def _decisive(result):
    """Dotted field -> its value as JSON, of those that may not differ between seeds."""
    config = result["config"]
    free = {"seed", "num_seeds", *settings.FREE}
    free |= {f"{name}.{field}" for name in config for field in settings.FREE_PHASE}
    # A run that starts from another's folder starts from that with its own seed.
    own = f"-seed{result['seed']}"
    return {
        field: value.replace(own, "-seed*")
        for field, value in settings.flat(config)
        if field not in free
    }

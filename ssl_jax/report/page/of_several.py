"""The sections of a page that compare runs: methods side by side, over their seeds."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.report import measured, tables
from ssl_jax.report.formats import mean_std, p_value
from ssl_jax.report.page import svg
from ssl_jax.report.page.blocks import (
    Missing,
    Note,
    Plot,
    Plots,
    Section,
    Table,
    curves,
)
from ssl_jax.report.page.found import Found
from ssl_jax.report.page.of_run import accuracies, seed_curve
from ssl_jax.report.page.svg import Bar
from ssl_jax.workdir import results

FIGURE = "accuracy"  # of the last checkpoint: nothing is selected for the page
_FLOORS = ("supervised", "fixmatch")  # against which the others are tested, if there


class Group(NamedTuple):
    """The runs of one method."""

    method: str
    accuracies: Mapping[int, float]  # seed -> test accuracy
    steps: int

    @property
    def values(self) -> list[float]:
        return list(self.accuracies.values())


class _Runs(NamedTuple):
    results: Sequence[dict]  # one for each seed
    found: Sequence[Found]  # where they are from: one may have several


class Gap(NamedTuple):
    """A method against the baseline."""

    points: float  # of accuracy, above it
    p: float | None  # not corrected
    n: str  # in words: how many seeds, and whether they pair


def sections(runs: Sequence[Found], baseline: str = "") -> list[Section]:
    """For each data set and number of labels.

    Args:
      baseline: the method that the others are tested against; "": supervised, or
        fixmatch, or the one of the lowest accuracy.

    Raises:
      UserError: two runs of a method differ in more than their seed, or the baseline is
        no method of theirs.
    """
    found = [  # (result of a seed, its run)
        (result, run)
        for run in runs
        if run.result is not None
        for result in results.each_seed(run.result)
    ]
    run_of = {id(result): run for result, run in found}
    groups = tables.group([result for result, _ in found])
    methods = sorted({method for _, method in groups})
    if baseline and baseline not in methods:
        raise UserError(
            f"--baseline={baseline} is none of these results' methods; they are: "
            f"{', '.join(methods)}."
        )
    shown = []
    for column in dict.fromkeys(column for column, _ in groups):
        of_column = {
            method: _Runs(of_it, _once(run_of[id(result)] for result in of_it))
            for (at, method), of_it in groups.items()
            if at == column
        }
        data, labels = column
        title = f"{data}, {f'{labels:,}' if labels else 'all'} labels: methods compared"
        shown.append(Section(title, list(_compared(of_column, baseline))))
    late = [str(run.path) for run in runs if run.result is None]
    if late:
        text = f"These runs are not finished: {', '.join(late)}."
        shown.insert(0, Section("Not compared", [Missing(text)]))
    return shown


def gap(group: Group, floor: Group) -> Gap:
    """By the pairs of runs with the same seed, where there are two such pairs or more
    and all runs are in one; else by all runs, with Welch's test."""
    seeds = sorted(group.accuracies.keys() & floor.accuracies.keys())
    if len(seeds) == len(group.accuracies) == len(floor.accuracies) > 1:
        ours, theirs = ([of.accuracies[s] for s in seeds] for of in (group, floor))
        n = f"{len(seeds)} pairs of seeds"
        p = tables.paired(ours, theirs)
    else:
        ours, theirs = group.values, floor.values
        n = f"{len(ours)} and {len(theirs)} seeds, not paired"
        p = tables.welch(ours, theirs)
    return Gap(100 * (fmean(ours) - fmean(theirs)), p, n)


def _once(runs):
    return list({run.path: run for run in runs}.values())


def _compared(of_method: Mapping[str, _Runs], baseline: str) -> Iterator:
    groups = [
        Group(
            method,
            {result["seed"]: result["test"][FIGURE] for result in runs.results},
            min(map(tables.steps, runs.results)),
        )
        for method, runs in of_method.items()
        if all(FIGURE in result["test"] for result in runs.results)
    ]
    if not groups:
        yield Missing("None of these runs was judged by a test accuracy.")
        return
    groups.sort(key=lambda group: -fmean(group.values))
    names = [group.method for group in groups]
    wanted = (baseline, *_FLOORS, names[-1])
    floor = groups[names.index(next(name for name in wanted if name in names))]
    others = [group for group in groups if group is not floor]
    gaps = {group.method: gap(group, floor) for group in others}
    corrected = tables.holm([of.p for of in gaps.values()])
    p_of = dict(zip(gaps, corrected, strict=True))
    bars = [
        Bar(group.method, f"{mean_std(group.values)} %", group.values)
        for group in groups
    ]
    caption = "Test accuracy: a dot a seed, mean and standard deviation"
    told = "; ".join(f"{bar.name} {bar.said}" for bar in bars)
    drawn = svg.bars(
        bars,
        alt=f"{caption}. {told}.",
        x_label=f"test accuracy; dashed: mean of {floor.method}",
        reference=fmean(floor.values),
    )
    yield Plots([Plot(caption, drawn), *_learning(of_method, names)])
    rows = []
    for group in groups:
        of = gaps.get(group.method)
        against = ["", "", ""]
        if of is not None:
            p = p_value(p_of.get(group.method))
            against = [f"{of.points:+.2f}", p, of.n]
        seeds = ", ".join(map(str, sorted(group.accuracies)))
        said = mean_std(group.values)
        rows.append([group.method, said, *against, f"{group.steps:,}", seeds])
    header = ["method", "accuracy, % (n)", "points", "p", "of", "steps", "seeds"]
    yield Table(header, rows)
    yield Note(
        "The accuracy is of the last checkpoint: mean, standard deviation and number "
        f"of seeds; points: above {floor.method}. p is of a two-sided t-test: paired "
        f"where all seeds pair, else Welch's; with several methods against "
        f"{floor.method}, corrected by Holm. A dash: one seed tests nothing."
    )
    yield from _by_class(of_method, names)
    yield from _by_phase(of_method, names)


def _learning(of_method, names):
    """Test accuracy against steps of the last phase that has it, over the seeds."""
    series = []
    for method in names[: svg.LINES]:
        seeds = [rows for run in of_method[method].found for rows in _last(run)]
        style = len(series)
        series.append(seed_curve(seeds, "test/accuracy", method, style))
    if not any(len(each.xs) for each in series):
        return []
    caption = "Test accuracy as it trains: mean and standard deviation over seeds"
    if len(names) > svg.LINES:
        caption += f"; the best {svg.LINES} of {len(names)}"
    return [curves(caption, series, **accuracies(series))]


def _last(run: Found):
    """The journals of each seed of the last phase that evaluates."""
    for phase in reversed(run.phases):
        if any(measured.series(rows, "test/accuracy")[0] for rows in phase.seeds):
            return phase.seeds
    return []


def _by_class(of_method, names) -> Iterator:
    """Where classes were made rarer, what each counts alike in."""
    rows = []
    for method in names:
        runs = of_method[method].results
        if all(tables.has(run, figure) for run in runs for figure in tables.BY_CLASS):
            told = [[run["test"][f] for run in runs] for f in tables.BY_CLASS]
            rows.append([method, *map(mean_std, told)])
    if rows:
        header = ["method", *(f"{said}, % (n)" for said in tables.BY_CLASS.values())]
        yield Table(header, rows, "Each class counting alike")


def _by_phase(of_method, names) -> Iterator:
    """What each phase reached, of methods that have several."""
    rows = []
    for method in names:
        reached: dict[str, list[float]] = {}
        for run in of_method[method].found:
            for phase in run.phases:
                accuracy = ((phase.entry or {}).get("test") or {}).get(FIGURE)
                if accuracy is not None:
                    reached.setdefault(phase.name, []).append(accuracy)
        if len(reached) > 1:
            rows += [[method, name, mean_std(v)] for name, v in reached.items()]
    if rows:
        header = ["method", "phase", "accuracy, % (n)"]
        yield Table(header, rows, "By phase")

"""What each part of a run added: the whole against the run without it."""

from collections.abc import Iterator, Mapping
from statistics import fmean

from ssl_jax.report import tables
from ssl_jax.report.formats import mean_std, p_value
from ssl_jax.report.page import svg
from ssl_jax.report.page.blocks import Note, Plot, Plots, Table
from ssl_jax.report.page.found import Found
from ssl_jax.report.page.svg import Bar


def blocks(run: Found) -> Iterator:
    """The waterfall and its numbers; nothing where --mode=ablate was not run."""
    found = run.ablation
    if found is None:
        return
    whole, rows = _by_seed(found["whole"]), _rows(found)
    first = Bar("the whole run", mean_std(whole.values()), list(whole.values()))
    bars = [first, *(_bar(whole, part) for part, _ in rows)]
    caption = "Test accuracy without each part, and what the part adds to that"
    told = "; ".join(f"{bar.name}: {bar.said}" for bar in bars)
    drawn = svg.bars(
        bars,
        alt=f"{caption}. {told}.",
        x_label="test accuracy; dashed: the whole run",
        reference=fmean(whole.values()),
    )
    yield Note(
        "Each part is left out alone, with the same labels, seeds, steps and batches, "
        "so that the differences need not add up. A bar reaches from the mean without "
        "the part to that of the whole run; one that is only outlined is of a part "
        "that took something away."
    )
    yield Plots([Plot(caption, drawn)])
    yield Table(*table(found))
    yield Note(
        "n: seeds; it adds: points of accuracy. p: paired t-test over the seeds that "
        "both have, two-sided, corrected by Holm over the parts; of one seed none."
    )
    fields = [
        [part["what"], ", ".join(f"{k}={v}" for k, v in part["fields"].items())]
        for part in found["parts"]
    ]
    yield Table(["without", "is with"], fields, folded="the settings", wraps=True)
    missing = [part["what"] for part in found["parts"] if not part["runs"]]
    if missing:
        yield Note(f"Not trained yet without: {', '.join(missing)}.")


def table(found: Mapping) -> tuple[list[str], list[list[str]]]:
    """(header, a row for the whole and for each part, what adds most first) of what
    --mode=ablate has found."""
    whole = _by_seed(found["whole"])
    lines = [["(the whole run)", mean_std(whole.values()), "", ""]]
    for part, p in _rows(found):
        runs = mean_std(_by_seed(part["runs"]).values())
        added = f"{100 * _added(whole, part):+.2f}"
        lines.append([part["what"], runs, added, p_value(p)])
    return ["without", "accuracy, % (n)", "it adds", "p"], lines


def _rows(found) -> list[tuple[Mapping, float | None]]:
    """(part, corrected p) of those that were tried, what adds most first."""
    whole = _by_seed(found["whole"])
    tried = [part for part in found["parts"] if part["runs"]]
    ps = tables.holm([_p(whole, _by_seed(part["runs"])) for part in tried])
    rows = zip(tried, ps, strict=True)
    return sorted(rows, key=lambda row: -_added(whole, row[0]))


def _by_seed(runs) -> dict[int, float]:
    return {run["seed"]: run["accuracy"] for run in runs}


def _added(whole: Mapping[int, float], part) -> float:
    """Mean difference over the seeds that both have."""
    runs = _by_seed(part["runs"])
    both = [seed for seed in runs if seed in whole]
    return fmean(whole[seed] - runs[seed] for seed in both) if both else 0.0


def _p(whole, runs):
    both = [seed for seed in runs if seed in whole]
    return tables.paired([whole[s] for s in both], [runs[s] for s in both])


def _bar(whole, part) -> Bar:
    added = _added(whole, part)
    kind = "gain" if added >= 0 else "loss"
    values = list(_by_seed(part["runs"]).values())
    said = f"{mean_std(values)}, {100 * added:+.1f}"
    return Bar(part["what"], said, values, fmean(whole.values()), kind)

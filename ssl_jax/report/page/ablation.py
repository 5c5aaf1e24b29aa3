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
    bars = [first, *(_bar(whole, part, added) for part, added, _ in rows)]
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
    for part, added, p in _rows(found):
        runs = mean_std(_by_seed(part["runs"]).values())
        lines.append([part["what"], runs, f"{100 * added:+.2f}", p_value(p)])
    return ["without", "accuracy, % (n)", "it adds", "p"], lines


def _rows(found) -> list[tuple[Mapping, float, float | None]]:
    """(part, mean difference over the seeds that both have, corrected p) of those that
    were tried, what adds most first."""
    whole = _by_seed(found["whole"])
    tried = {part["what"]: part for part in found["parts"] if part["runs"]}
    gaps = tables.paired_by_seed(
        {what: (whole, _by_seed(part["runs"])) for what, part in tried.items()}
    )
    rows = []
    for what, part in tried.items():
        above, p = gaps.get(what, ([0.0], None))
        rows.append((part, fmean(above), p))
    return sorted(rows, key=lambda row: -row[1])


def _by_seed(runs) -> dict[int, float]:
    return {run["seed"]: run["accuracy"] for run in runs}


def _bar(whole, part, added) -> Bar:
    kind = "gain" if added >= 0 else "loss"
    values = list(_by_seed(part["runs"]).values())
    said = f"{mean_std(values)}, {100 * added:+.1f}"
    return Bar(part["what"], said, values, fmean(whole.values()), kind)

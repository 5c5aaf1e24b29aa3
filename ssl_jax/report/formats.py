"""Tables of mean +- std over seeds, in Markdown, LaTeX and CSV."""

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable, Sequence

from ssl_jax.report import tables


def mean_std(values: Iterable[float], scale: float = 100) -> str:
    """ "4.52 +- 0.31 (5)": mean, sample standard deviation, number of seeds."""
    values = [scale * value for value in values]
    std = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{std} ({len(values)})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(rows: Sequence[tables.Row]) -> str:
    """The rows of `tables.compare`: a table for each figure, a line for each method."""
    texts = []
    for of_figure in _by_figure(rows):
        header, lines, notes = _cells(of_figure)
        texts.append(f"{_caption(of_figure)}:\n\n{markdown_table(header, lines)}")
        if notes:
            texts.append(_sources(notes))
    return "\n\n".join(texts)


def latex(rows: Sequence[tables.Row]) -> str:
    """As `markdown`, for a document with the package booktabs."""
    texts = []
    for of_figure in _by_figure(rows):
        header, lines, notes = _cells(of_figure)
        written = [
            " & ".join(map(escape_latex, line)) + r" \\" for line in [header, *lines]
        ]
        texts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(_caption(of_figure))}.}}",
            rf"\begin{{tabular}}{{{'l' * len(header)}}}",
            r"\toprule",
            written[0],
            r"\midrule",
            *written[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par {escape_latex(_sources(notes))}"] if notes else []),
            r"\end{table}",
        ]
    return "\n".join(texts)


def as_csv(rows: Sequence[tables.Row]) -> str:
    """A line for each row, errors in % (100 - the figure, of all), what does not exist
    empty; seeds are separated by spaces, and what was published is a JSON list."""
    written = io.StringIO()
    file = csv.writer(written, lineterminator="\n")
    file.writerow(
        "data labels method figure seeds n error std steps published_steps baseline "
        "difference p_holm published".split()
    )
    for row in rows:
        seeds, published = " ".join(map(str, row.seeds)), json.dumps(row.published)
        known = row.published_steps or None
        file.writerow(
            [row.data, row.labels, row.method, row.figure, seeds, len(row.errors)]
            + [row.mean, row.std, row.steps, known, row.baseline, row.difference, row.p]
            + [published if row.published else None]
        )
    return written.getvalue().rstrip("\n")


def against(row: tables.Row) -> str:
    """ "-2.50, p 0.012": 2.5 points fewer errors than the baseline, and the corrected
    p, or a dash where there is no test. Without a baseline, nothing. Of a figure that
    is told as it is (`tables.BY_CLASS`), the points that it is above the baseline."""
    if row.difference is None:
        return ""
    sign = -1 if row.figure in tables.BY_CLASS else 1
    return f"{sign * row.difference:+.2f}, p {p_value(row.p)}"


def values(row: tables.Row) -> str:
    """Its errors, or a figure of `tables.BY_CLASS` as it is, by `mean_std`."""
    if row.figure in tables.BY_CLASS:
        return mean_std((100 - error for error in row.errors), scale=1)
    return mean_std(row.errors, scale=1)


def p_value(p: float | None) -> str:
    """ "0.012", "< 0.001", or a dash where there is no test."""
    text = "-" if p is None else f"{p:.3f}"
    return text if text != "0.000" else "< 0.001"


def progress(row: tables.Row) -> str:
    """ "200,000 of 1,048,576": steps, and the published ones where those are more."""
    short = row.steps < row.published_steps
    return f"{row.steps:,}" + (f" of {row.published_steps:,}" if short else "")


def escape_latex(text: str) -> str:
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    names |= {"^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$"}
    text = re.sub(r"[\\~^±<>&%$#_{}]", lambda m: names.get(m[0], rf"\{m[0]}"), text)
    return re.sub(r"^-(?=\d)", "$-$", text)


def _by_figure(rows):
    figures = dict.fromkeys(row.figure for row in rows)
    return [[row for row in rows if row.figure == figure] for figure in figures]


def _caption(rows):
    figure = rows[0].figure
    said = tables.BY_CLASS.get(figure, "error")
    caption = f"Test {said} in %, mean ± std (seeds), of {tables.FIGURES[figure]}"
    fewest = min(row.evaluations for row in rows)
    if figure == "accuracy_median20" and fewest < tables.MEDIAN_OF:
        caption += f" (of all where there were fewer, {fewest} at least)"
    if any(row.difference is not None for row in rows):
        caption += (
            f"; differences to {rows[0].baseline} in points, with Welch's p corrected "
            "by Holm over the methods"
        )
    return caption


def _cells(rows):
    """Header, a line for each method, and the sources that are cited by number."""
    lines = {row.method: [row.method] for row in rows}
    header, notes = ["method"], []
    for data, labels in dict.fromkeys((row.data, row.labels) for row in rows):
        column = {r.method: r for r in rows if (r.data, r.labels) == (data, labels)}
        cells = {
            f"{data}, {f'{labels:,}' if labels else 'all'} labels": values,
            "published": lambda r: _cited(r, notes),
            f"against {rows[0].baseline}": against,
            "steps": progress,
        }
        for name, write in cells.items():
            written = {method: write(row) for method, row in column.items()}
            if any(written.values()):
                header.append(name)
                for method, line in lines.items():
                    line.append(written.get(method, ""))
    return header, list(lines.values()), notes


def _cited(row, notes):
    cited = []
    for entry in row.published:
        note = f"{entry['source']}, {entry['steps']:,} steps"
        if note not in notes:
            notes.append(note)
        std = f" ± {entry['std']:.2f}" if "std" in entry else ""
        cited.append(f"{entry['error']:.2f}{std} [{notes.index(note) + 1}]")
    return "; ".join(cited)


def _sources(notes):
    cited = (f"[{i}] {note}" for i, note in enumerate(notes, start=1))
    return f"Published: {'; '.join(cited)}."


FORMATS = {"markdown": markdown, "csv": as_csv, "latex": latex}

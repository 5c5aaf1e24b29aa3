"""The table of a paper's runs: ours, and beside them what was published."""

from collections.abc import Sequence

from experiments import jobs
from experiments.jobs import Run
from ssl_jax.report import formats
from ssl_jax.report.tables import steps
from ssl_jax.workdir import settings
from ssl_jax.workdir.results import Table


def table(runs: Sequence[Run], results: Table) -> str:
    """Markdown: in %, mean ± std (seeds), and beside it what was published.

    Steps are those of the shortest seed, summed over its phases. Next to runs of fewer
    steps than their configuration has, nothing published is shown.
    """
    header, rows = [""], {run.row: [run.row] for run in runs}
    for column in dict.fromkeys(column for run in runs for column in run.cells):
        ours, published = dict.fromkeys(rows, ""), dict.fromkeys(rows, "")
        for run in runs:
            if column in run.cells:
                cell, found = run.cells[column], results[run.name]
                if found:
                    ours[run.row] = formats.mean_std(map(cell.read, found))
                if not found or min(map(steps, found)) >= _planned(run):
                    published[run.row] = cell.published
        shown = {column: ours, "published": published}
        for name, entries in shown.items():
            if name == column or any(entries.values()):
                header.append(name)
                for row, line in rows.items():
                    line.append(entries[row])
    for row, line in rows.items():
        of_row = [run for run in runs if run.row == row]
        line.append(
            ", ".join(dict.fromkeys(_progress(r, results[r.name]) for r in of_row))
        )
    return formats.markdown_table([*header, "steps"], list(rows.values()))


def _progress(run, found):
    done, planned = min(map(steps, found), default=0), _planned(run)
    return f"{done:,}" if done >= planned else f"{done:,} of {planned:,}"


def _planned(run):
    config = jobs.load(run.config, run.overrides)
    return sum(config[n].steps for n in config.phases if settings.trains(config[n]))

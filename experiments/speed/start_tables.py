"""What first_step.py, before.py and race.py measured, as tables. Imports no JAX."""

from ssl_jax.report import formats
from ssl_jax.workdir.results import Table

MINUTES = (1, 2, 5, 10, 20, 30)  # columns of a race
NEAR = 0.9  # of a column's time: so long is trained, at least, what has an error there


def first_step(results: Table) -> str:
    """A part for each device."""
    return "\n\n".join(of_first_step(measured) for (measured,) in results.values())


def of_first_step(results: dict) -> str:
    """A line for each config."""
    lines = []
    for config, starts in results["starts"].items():
        line = [f"`{config}`"]
        for which in ("first", "second"):
            taken = starts[which]
            line += [f"{taken['seconds']:.1f}", f"{taken['cpu_seconds']:.1f}"]
        lines.append([*line, f"{starts['times']:.1f}"])
    header = ["to the first step", "first start, s", "CPU s"]
    header += ["second start, s", "CPU s", "times as fast"]
    caption = (
        f"On {results['device']['kind']}, {results['cpus']} CPU cores; of the second "
        f"start the median of {len(starts['rounds'])}:"
    )
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


def before(results: Table) -> str:
    """A line for each config of each device."""
    if not results:
        return (
            "Not measured yet: `python -m experiments.speed.before --base=6ae31b6 "
            "--keep=cpu`."
        )
    header = ["a step of", "on", "before, ms", "now, ms", "times as fast"]
    header += ["commit before", "now"]
    return formats.markdown_table(
        header, [_before_row(one) for (one,) in results.values()]
    )


def _before_row(one):
    milliseconds = [f"{1e3 * s:,.0f}" for s in one["median_seconds"].values()]
    least, most = min(one["ratios"]), max(one["ratios"])
    device = one["devices"]["now"]
    commits = [
        git["commit"][:7] + " and changes" * (not git["clean"])
        for git in one["commits"].values()
    ]
    return [
        f"`{one['name']}`",
        f"{device['kind']}, {one['cpus']} CPU cores",
        *milliseconds,
        f"{one['times_as_fast']:.2f} ({least:.2f} to {most:.2f})",
        *commits,
    ]


def race(found: Table) -> str:
    """Of race.py: the last error measured by each minute, in %, and the last of all."""
    if not found:
        return "Not measured yet: `python -m experiments.speed.race`."
    header = ["run", "labels", "on", *(f"{m} min" for m in MINUTES)]
    header += ["last", "steps", "of"]
    lines = []
    for runs in found.values():
        for one in runs:
            cells = [one["name"], f"{one['labels']:,}", one["device"]["kind"]]
            for minutes in MINUTES:
                until = [e for s, _, e in one["curve"] if s <= 60 * minutes]
                there = one["curve"] and one["curve"][-1][0] > NEAR * 60 * minutes
                cells.append(f"{100 * until[-1]:.2f}" if until and there else "")
            last = one["curve"][-1:]
            cells += [f"{100 * e:.2f} at {s / 60:.1f} min" for s, _, e in last] or [""]
            lines.append([*cells, f"{one['trained']:,}", f"{one['steps']:,}"])
    return formats.markdown_table(header, lines)

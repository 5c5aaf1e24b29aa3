"""What first_step.py measured, as a table of docs/results.md. Imports no JAX."""

from ssl_jax.report import formats
from ssl_jax.workdir.results import Table


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

"""Runs in words: a summary for the terminal, and tables of mean +- std over seeds."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

SHOWN = ("knn_accuracy", "effective_rank", "reconstruction_loss")  # in summaries


def summary(result: dict) -> str:
    """The run in a few lines, for the terminal."""
    lines = []
    for name, phase in result["phases"].items():
        if "probe" in phase:
            lines.append(f"{name}:\n{probe_table(phase['probe'])}")
            continue
        test = phase["test"]
        line = (
            f"{name}: {phase['algorithm']}, {phase['steps']} steps in "
            f"{phase['seconds']:.0f} s (+ {phase['compile_seconds']:.0f} s compiling)"
        )
        if "accuracy" in test:
            line += (
                f", test accuracy {test['accuracy']:.2%} "
                f"(median of last 20: {test['accuracy_median20']:.2%})"
            )
        others = [f"{key} {value:.4g}" for key, value in test.items() if key in SHOWN]
        lines.append(", ".join([line, *others]))
    return "\n".join(lines)


def probe_table(probe: dict[str, dict]) -> str:
    """Test accuracy in %: a row for each representation that was judged."""
    header = ["features", *next(iter(probe.values()))]
    rows = [
        [name, *(f"{100 * score['accuracy']:.2f}" for score in scores.values())]
        for name, scores in probe.items()
    ]
    return markdown_table([word.replace("_", " ") for word in header], rows)


def mean_std(values: Iterable[float], scale: float = 100) -> str:
    """ "4.52 +- 0.31 (5)": mean, sample standard deviation, number of seeds."""
    values = [scale * value for value in values]
    std = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{std} ({len(values)})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def into_readme(name: str, text: str) -> None:
    """Puts `text` between the markers of `name` in README.md.

    Raises:
      ValueError: it has none, or several.
    """
    readme = Path("README.md")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text(), flags=re.S
    )
    if count != 1:
        raise ValueError(f"README.md has {count} places for {name}, not one.")
    readme.write_text(filled)

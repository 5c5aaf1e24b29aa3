"""A finished run in a few lines, for the terminal."""

from ssl_jax.report.formats import markdown_table
from ssl_jax.report.tables import MEDIAN_OF

SHOWN = ("knn_accuracy", "effective_rank", "reconstruction_loss")  # in summaries


def summary(result: dict) -> str:
    """The run in a few lines, for the terminal."""
    lines = []
    for name, phase in result["phases"].items():
        if "probe" in phase:
            lines.append(f"{name}:\n{probe_table(phase['probe'])}")
            continue
        test = phase["test"]
        steps = f"{phase['steps']} steps"
        if phase.get("least_steps", phase["steps"]) < phase["steps"]:
            steps = f"{phase['least_steps']} to {steps}"
        line = (
            f"{name}: {phase['algorithm']}, {steps} in "
            f"{phase['seconds']:.0f} s (+ {phase['compile_seconds']:.0f} s compiling)"
        )
        if "accuracy" in test:
            line += (
                f", test accuracy {test['accuracy']:.2%} "
                f"({_median(test['evaluations'])}: {test['accuracy_median20']:.2%})"
            )
        if "accuracy_std" in test:
            line += f", ± {test['accuracy_std']:.2%} over {phase['seeds']} seeds"
        if kept := phase.get("pseudo_labels"):
            line += f", {kept['kept']:,} of {kept['of']:,} pseudo-labels kept"
            if kept["kept_accuracy"] is not None:  # some truth is known
                line += f", {kept['kept_accuracy']:.1%} of them right"
        others = [f"{key} {value:.4g}" for key, value in test.items() if key in SHOWN]
        lines.append(", ".join([line, *others]))
    return "\n".join(lines)


def _median(evaluations):
    """What accuracy_median20 is of so many evaluations."""
    if evaluations < MEDIAN_OF:
        return f"median of {evaluations} evaluation{'s' * (evaluations > 1)}"
    return f"median of last {MEDIAN_OF}"


def probe_table(probe: dict[str, dict]) -> str:
    """Test accuracy in %: a row for each representation that was judged."""
    header = ["features", *next(iter(probe.values()))]
    rows = [
        [name, *(f"{100 * score['accuracy']:.2f}" for score in scores.values())]
        for name, scores in probe.items()
    ]
    return markdown_table([word.replace("_", " ") for word in header], rows)

"""The sections of a page that show one run."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax.report import measured, tables
from ssl_jax.report.page import ablation, of_classifier
from ssl_jax.report.page.blocks import (
    Code,
    Missing,
    Note,
    Plots,
    Section,
    Table,
    Tile,
    Tiles,
    curves,
)
from ssl_jax.report.page.found import Found, Phase, Rows
from ssl_jax.report.page.svg import Series, percent
from ssl_jax.workdir import settings

_STYLE = {"train": 2, "val": 1, "test": 0}
# Training sees views, mixtures or a teacher's labels, and drops units.
_SAID = {"train": "train, as trained on", "val": "validation", "test": "test"}
_QUALITY = {  # metric -> what it is
    "train/share_kept": "kept, of all",
    "train/kept_accuracy": "right, of the kept",
    "train/rejected_accuracy": "right, of the rejected",
}


def sections(run: Found, *, pictures: bool = True) -> list[Section]:
    """All that the workdir has to show.

    Args:
      pictures: of test images as well, which are most of a page's bytes.
    """
    shown = [
        Section("In short", list(_short(run))),
        Section("Learning curves, by phase", list(_learning(run))),
        Section("What each part added", list(ablation.blocks(run))),
        Section("Pseudo-labels", list(_pseudo_labels(run))),
        *of_classifier.sections(run, pictures=pictures),
        Section("Settings, data and versions", list(_settings(run))),
    ]
    return [section for section in shown if section.blocks]


def heading(run: Found) -> tuple[str, str]:
    """Title, and what stands below it."""
    config = run.config
    labels = config["data"]["num_labels"]
    granted = f"{labels:,}" if labels else "all"
    if run.result and "data" in run.result:
        granted = f"{sum(run.result['data']['classes'].values()):,}"
    seeds = f"seed {config['seed']}"
    if config.get("num_seeds", 1) > 1:
        seeds = f"seeds {config['seed']} to {config['seed'] + config['num_seeds'] - 1}"
    under = f"{config['data']['name']}, {granted} labels, {seeds}"
    return config["name"], f"{under}; {run.path}"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def seed_curve(seeds: Sequence[Rows], key: str, name: str, style: int) -> Series:
    """A number of the journal against steps; of several seeds the mean of those that
    were still trained, with their standard deviation as its band."""
    values_of: dict[int, list] = {}
    for rows in seeds:
        for step, value in zip(*measured.series(rows, key), strict=True):
            if value is not None:
                values_of.setdefault(step, []).append(value)
    steps = sorted(values_of)
    means = [float(np.mean(values_of[step])) for step in steps]
    spread: list[float] = []
    if len(seeds) > 1:
        spread = [
            float(np.std(v, ddof=1)) if len(v) > 1 else 0.0
            for v in (values_of[step] for step in steps)
        ]
    return Series(name, steps, means, style, spread)


def accuracies(series: Sequence[Series]) -> dict:
    """How `curves` draws them: from a tick below all of them to 100%."""
    low = min((y for each in series for y in each.ys), default=0.0)
    low -= max((s for each in series for s in each.spread), default=0.0)
    ticks = 10 if low >= 0.5 else 5
    low = max(0.0, np.floor(ticks * low) / ticks)
    return dict(y_range=(min(low, 0.9), 1), y_said=percent, said=share)


def _short(run) -> Iterator:
    if run.result is None:
        yield Missing(
            "This run is not finished: what follows is as far as it came. The same "
            "command goes on with it."
        )
    test = run.result["test"] if run.result else {}
    tiles = []
    if "accuracy" in test:
        spread = ""
        if "accuracy_std" in test:
            spread = f"± {share(test['accuracy_std'])} over {len(run.result['seeds'])} "
            spread += "seeds; "
        under = f"{spread}of the last checkpoint"
        tiles.append(Tile("test accuracy", share(test["accuracy"]), under))
        if "evaluations" in test:
            count = min(test["evaluations"], 20)
            median = f"of the last {count} evaluations"
            tiles.append(Tile("median", share(test["accuracy_median20"]), median))
        if tables.has(run.result, "balanced_accuracy"):
            balanced = share(test["balanced_accuracy"])
            tiles.append(Tile("balanced accuracy", balanced, "each class alike"))
        if test.get("accuracy_at_best_val") is not None:
            at_best = share(test["accuracy_at_best_val"])
            tiles.append(Tile("at best validation", at_best, "test accuracy"))
    tiles += of_classifier.tiles(run)
    if run.result and "data" in run.result:
        data = run.result["data"]
        tiles.append(
            Tile(
                "labels",
                f"{sum(data['classes'].values()):,}",
                f"and {data['unlabeled']:,} images without",
            )
        )
    entries = [phase.entry for phase in run.phases if phase.entry]
    if entries:
        seconds = sum(entry.get("seconds", 0) for entry in entries)
        steps = sum(entry.get("steps", 0) for entry in entries)
        under = f"{steps:,} steps, without compiling"
        tiles.append(Tile("time", duration(seconds), under))
    if tiles:
        yield Tiles(tiles)
    yield from _phases(run)
    yield from _probes(run)


def _phases(run) -> Iterator:
    rows = []
    for phase in run.phases:
        if not phase.trains:
            continue
        entry = phase.entry or {}
        trained = max((rows[-1]["step"] for rows in phase.seeds if rows), default=0)
        steps = f"{trained:,}"
        if trained < phase.config["steps"]:
            steps += f" of {phase.config['steps']:,}"
        test = entry.get("test", {})
        rows.append(
            [
                phase.name,
                phase.config["algorithm"]["name"].partition(".")[0],
                steps,
                share(entry.get("val", {}).get("accuracy")),
                share(test.get("accuracy")),
                duration(entry["seconds"]) if "seconds" in entry else "",
                _unless("steps", entry.get("stopped", "not over")),
                _unless("scratch", phase.config["start_from"]),
            ]
        )
    header = ["phase", "method", "steps", "validation", "test", "time"]
    header += ["stopped by", "started from"]
    if rows:
        yield Table(*_filled(header, rows))


def _unless(usual, word):
    return "" if word == usual else word


def _filled(header, rows):
    """Without the columns that hold nothing."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _probes(run) -> Iterator:
    for phase in run.phases:
        if phase.entry is None or "probe" not in phase.entry:
            continue
        probe = phase.entry["probe"]
        judges = list(next(iter(probe.values())))
        rows = [
            [name, *(share(scores[judge]["accuracy"]) for judge in judges)]
            for name, scores in probe.items()
        ]
        header = ["features", *(judge.replace("_", " ") for judge in judges)]
        caption = f"{phase.name}: test accuracy of probes of {phase.entry['phase']}"
        yield Table(header, rows, caption)


def _learning(run) -> Iterator:
    plots = []
    for phase in run.phases:
        if any(phase.seeds):
            plots += _of_phase(phase, f"{phase.name}: " if len(run.phases) > 1 else "")
    if run.result and "rounds" in run.result:
        plots.append(_rounds(run.result["rounds"]))
    if plots:
        yield Plots(plots)
    if any(len(phase.seeds) > 1 for phase in run.phases):
        yield Note(
            "A line is the mean of the seeds, its band their standard deviation."
        )


def _of_phase(phase: Phase, before: str) -> list:
    loss = measured.CROSS_ENTROPY if phase.config["optimizer"] else measured.CHANGE
    plots = []
    for label, keys in measured.panels(phase.seeds, loss):
        series = [
            seed_curve(phase.seeds, key, _SAID[name], _STYLE[name])
            for name, key in keys.items()
        ]
        shares = label.startswith("accuracy")
        how = accuracies(series) if shares else {}
        if any(len(each.xs) for each in series):
            plots.append(curves(f"{before}{label}", series, **how))
    for key, label in (("test/effective_rank", "effective rank of the features"),):
        series = seed_curve(phase.seeds, key, label, 0)
        if len(series.xs):
            plots.append(curves(f"{before}{label}", [series]))
    return plots


def _rounds(rounds):
    labels = [entry["labels"] for entry in rounds]
    pool = [entry["accuracy"] for entry in rounds]
    series = [Series("images still unlabeled", labels, pool, 1)]
    if all("accuracy" in entry["test"] for entry in rounds):
        test = [entry["test"]["accuracy"] for entry in rounds]
        series.insert(0, Series("test images", labels, test, 0))
    how = accuracies(series)
    return curves("accuracy by labels asked for", series, x_label="labels", **how)


def _pseudo_labels(run) -> Iterator:
    plots, tables = [], []
    for phase in run.phases:
        before = f"{phase.name}: " if len(run.phases) > 1 else ""
        series = [
            seed_curve(phase.seeds, key, name, style)
            for style, (key, name) in enumerate(_QUALITY.items())
        ]
        if len(series[0].xs) > 1:
            how = dict(y_range=(0, 1), y_said=percent, said=share)
            plots.append(curves(f"{before}pseudo-labels", series, **how))
            ece = seed_curve(phase.seeds, "train/ece", "ECE", 3)
            if any(ece.ys):
                caption = f"{before}calibration error of pseudo-labels"
                plots.append(curves(caption, [ece]))
        tables += _by_class(run, phase, before)
        tables += _taught(phase)
    if plots:
        yield Plots(plots)
    yield from tables
    if plots:
        yield Note(
            "Whether a pseudo-label is right is known where the data set knows the "
            "truth of an image whose label was not granted; it reaches no loss."
        )


def _by_class(run, phase, before):
    """Of the last log point that has it, or the teacher's one."""
    with_them = [
        row for rows in phase.seeds[:1] for row in rows if "train/kept_per_class" in row
    ]
    if not with_them or not run.class_names:
        return []
    last = with_them[-1]
    at = (
        f"at step {last['step']:,}, images a step" if last["step"] else "of the teacher"
    )
    rows = [
        [name, f"{said:,.4g}", f"{kept:,.4g}", "" if bar is None else f"{bar:.3g}"]
        for name, said, kept, bar in zip(
            run.class_names,
            last["train/predicted_per_class"],
            last["train/kept_per_class"],
            last.get("train/threshold_per_class") or [None] * len(run.class_names),
            strict=True,
        )
    ]
    header = ["class", "pseudo-labels", "of them kept", "threshold"]
    return [Table(header, rows, folded=f"{before}pseudo-labels by class, {at}")]


def _taught(phase):
    told = (phase.entry or {}).get("pseudo_labels")
    if not told:
        return []
    row = [
        f"{phase.config['labels_from']} for {phase.name}",
        f"{told['kept']:,} of {told['of']:,}",
        share(told["kept_accuracy"]) or "not known",
        share(told["rejected_accuracy"]) or "not known",
    ]
    return [Table(["teacher", "kept", "right, of the kept", "of the rejected"], [row])]


def _command(argv: Sequence[str]) -> list[str]:
    """As it is typed after "python"; nothing of a session that has no command."""
    script = Path(argv[0]) if argv else Path()
    if "experiments" in script.parts:
        at = len(script.parts) - script.parts[::-1].index("experiments") - 1
        module = ".".join(script.with_suffix("").parts[at:])
        return [f"-m {module}", *map(shlex.quote, argv[1:])]
    return list(map(shlex.quote, argv)) if script.name == "launch.py" else []


def _settings(run) -> Iterator:
    saved, result = run.saved, run.result or {}
    command = _command(saved.get("command") or [])
    if command:
        yield Note("The command that made this run, and goes on with it:")
        yield Code(" \\\n  ".join(["python " + command[0], *command[1:]]))
    else:
        yield Note(
            "Made from Python: the same call, with this workdir, goes on with it."
        )
    git = result.get("git") or saved.get("git")
    versions = result.get("versions") or saved.get("versions") or {}
    device = result.get("device") or saved.get("device") or {}
    commit = "not known: the code was in no git checkout"
    if git:
        clean = "" if git["clean"] else ", with changes that are not committed"
        commit = f"{git['commit']}{clean}"
    rows = [["commit", commit], *([k, v] for k, v in versions.items())]
    if device:
        rows.append(["device", f"{device['count']} x {device['kind']}"])
    if "resumed" in result:
        rows.append(["resumed", f"{result['resumed']} times"])
    yield Table(["what it ran on", ""], rows, wraps=True)
    if "data" in result:
        yield Table(["data", ""], _data(result["data"]), wraps=True)
    fields = [[name, value] for name, value in settings.flat(run.config)]
    yield Table(
        ["field", "value"], fields, folded=f"all {len(fields)} settings", wraps=True
    )


def _data(data: Mapping) -> list:
    counts = list(data["classes"].values())
    even = f"{min(counts, default=0):,}"
    if len(set(counts)) > 1:
        even += f" to {max(counts):,}"
    rows = [
        ["name", data["name"]],
        ["classes", f"{len(counts):,}, with {even} labels each" if counts else "none"],
        ["without a label", f"{data['unlabeled']:,}"],
        ["to validate", f"{data['validation']:,}"],
        ["to test", f"{data['test']:,}"],
    ]
    if "shape" in data:
        height, width, channels = data["shape"]
        form = f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
        rows.append(["images", form])
    if data.get("sizes"):
        rows.append(["as found", "{} to {} pixels a side".format(*data["sizes"])])
    return rows

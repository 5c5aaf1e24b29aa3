"""Label spreading past scikit-learn's limit: README's tables and figure.

python -m experiments.label_spreading_scale --data_dir=DIR
    [--parts=mnist_rbf,mnist_knn,million,scale] [--rounds=3] [--gamma=0.5] [--smoke]

* mnist_rbf: exact rbf in blocks on MNIST's 60,000 training images, 100 labels.
* mnist_knn: the same by 7 neighbours, exact and approximate, in turn with
  scikit-learn's, round after round, so that other load meets all alike.
* million, scale: 1,000,000 rows of 64 features, and 10,000 to 300,000, by the graph
  that graph="auto" chooses; and scikit-learn's, as far as it goes.

Every fit is a process of its own, so that its peak memory is its own: with the
interpreter, the libraries and the features, of which `start_bytes` tells. Seconds are
of the fit with all that it compiles. What is measured is added to
experiments/results/label_spreading_scale_<device>.json at once; parts measured earlier
stay there. --smoke tries everything at a hundredth of the size, in runs/.
"""

import json
import os
import resource
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import sklearn
from absl import app, flags
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import LabelSpreading

from ssl_jax import figures, phases, report, similarity, workdirs
from ssl_jax.algorithms import label_spreading
from ssl_jax.checkpoints import write_json
from ssl_jax.data import sources

COMMITTED = Path("experiments/results")
TRIED = Path("runs/label_spreading_scale_smoke")
PARTS = ("mnist_rbf", "mnist_knn", "million", "scale")
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
# Of the same rows: the sizes at which a line of the figure is measured. Past its last,
# scikit-learn's rbf holds several matrices of 8 N^2 bytes: 7 GB each at 30,000.
LINES = {
    "ssl_jax knn": SIZES,
    "scikit-learn knn": (10_000, 30_000, 100_000),
    "ssl_jax rbf": (10_000, 20_000, 30_000),
    "scikit-learn rbf": (10_000, 20_000),
}
# 10 Gaussians of unit covariance around centers drawn by N(0, SPREAD^2): the best
# possible classifier, which knows the centers, is right on 98.2% of the rows.
FEATURES, SPREAD, SCALE_GAMMA = 64, 0.5, 0.1
OPTIONS = dict(alpha=0.2, max_iter=30, tol=1e-3)
NEIGHBORS = 7
GIB = 2**30

DATA_DIR = flags.DEFINE_string("data_dir", "", "as config.data.dir, for MNIST")
CHOSEN = flags.DEFINE_multi_enum("parts", None, PARTS, "what to measure; default: all")
ROUNDS = flags.DEFINE_integer("rounds", 3, "of mnist_knn; the median counts")
GAMMA = flags.DEFINE_float("gamma", 0.5, "of mnist_rbf")
SOLVER = flags.DEFINE_enum("solver", "iteration", ["iteration", "cg"], "of mnist_rbf")
SMOKE = flags.DEFINE_bool("smoke", False, "a hundredth of the size, into runs/")


def main(_):
    folder, shrink = (TRIED, 100) if SMOKE.value else (COMMITTED, 1)
    machine = alone(machine_of)
    device = machine["device"]["kind"].lower().replace(" ", "_")
    path = folder / f"label_spreading_scale_{device}.json"
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    mnist = dict(data_dir=DATA_DIR.value, rows=60_000 // shrink, num_labels=100)

    def keep(part, found):
        results[part] = results.get(part, {}) | found
        results["machine"] = machine
        write_json(path, results)
        print(json.dumps({part: found}, indent=1), flush=True)

    for part in CHOSEN.value or PARTS:
        if part == "mnist_rbf":
            given = dict(gamma=GAMMA.value, solver=SOLVER.value, graph="blocks")
            found, _ = alone(measure, library="ssl_jax", **mnist, **given)
            keep(part, found)
        elif part == "mnist_knn":
            keep(part, against_sklearn(mnist, ROUNDS.value))
        else:
            for line, rows in of_part(part):
                keep("scale", {f"{line}, {rows:,} rows": at_scale(line, rows, shrink)})
    shown = table(results)
    print(shown)
    if device == "cpu" and "scale" in results:
        figures.save(cost(results["scale"]), folder / "label_spreading", "scale")
    if not SMOKE.value:
        files = sorted(folder.glob("label_spreading_scale_*.json"))
        parts = [table(json.loads(file.read_text())) for file in files]
        report.into_readme("label_spreading_scale", "\n\n".join(parts))


def alone(function, **given):
    """The function's value, from a new process that then ends."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, **given).result()


def machine_of() -> dict:
    return {
        "device": workdirs.device(phases.make_mesh()),
        "cpus": os.cpu_count(),
        "versions": {**workdirs.versions(), "scikit-learn": sklearn.__version__},
    }


def of_part(part: str) -> list[tuple[str, int]]:
    """(line, rows) of each fit; the million alone, as it decides and takes longest."""
    pairs = [(line, rows) for line, sizes in LINES.items() for rows in sizes]
    return [pair for pair in pairs if (pair[1] == SIZES[-1]) == (part == "million")]


def at_scale(line: str, rows: int, shrink: int) -> dict:
    library, kernel = line.split()
    tried = shrink > 1 and rows == SIZES[-1]  # where "auto" would still be exact
    given = dict(gamma=SCALE_GAMMA) if kernel == "rbf" else dict(n_neighbors=NEIGHBORS)
    if library == "ssl_jax":
        given["graph"] = "approximate" if tried else "auto"
    rows = rows // shrink
    labels = dict(num_labels=1000 // shrink, kernel=kernel)
    data = dict(library=library, data_dir=None, rows=rows)
    found, _ = alone(measure, **data, **labels, **given)
    if found.get("graph") == "approximate":
        found |= alone(recall, rows=rows)
    return {"line": line} | found


def against_sklearn(mnist: dict, rounds: int) -> dict:
    """Every round's entries, and for each of ours the median ratio of seconds and the
    least share of equal labels."""
    given = mnist | dict(kernel="knn", n_neighbors=NEIGHBORS)
    ours = ("auto", "approximate")
    entries = {name: [] for name in (*ours, "scikit-learn")}
    ratios, same = ({name: [] for name in ours} for _ in range(2))
    for _ in range(rounds):
        labels = {}
        for name, of_name in entries.items():
            which = dict(library="ssl_jax", graph=name) if name in ours else {}
            found, labels[name] = alone(measure, **{"library": name, **which, **given})
            of_name.append(found)
        for name in ours:
            theirs, own = entries["scikit-learn"][-1], entries[name][-1]
            ratios[name].append(theirs["seconds"] / own["seconds"])
            same[name].append(float((labels[name] == labels["scikit-learn"]).mean()))
    return {
        "ratio": {name: round(statistics.median(r), 2) for name, r in ratios.items()},
        "same_labels": {name: min(shares) for name, shares in same.items()},
        "rounds": entries,
    }


def measure(
    *, library: str, data_dir: str | None, rows: int, num_labels: int, **given
) -> tuple[dict, np.ndarray]:
    """(what a fit takes and how right it is on rows without a label; labels_N).

    Args:
      data_dir: MNIST's; None: clusters.
      given: options of label spreading, of OPTIONS' rank.
    """
    features_ND, truth_N = clusters(rows) if data_dir is None else mnist(data_dir, rows)
    labels_N = few(truth_N, num_labels)
    load, start_bytes = os.getloadavg()[0], peak_bytes()
    began, cpu_began = time.perf_counter(), time.process_time()
    if library == "ssl_jax":
        fit = label_spreading.solve(features_ND, labels_N, **OPTIONS, **given)
        told = {"products": fit.products, "converged": fit.converged}
        told["graph"] = fit.similarity.graph
        transduced_N, distributions_NK = fit.labels_N, fit.distributions_NK
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit = LabelSpreading(n_jobs=2, **OPTIONS, **given).fit(
                features_ND, labels_N
            )
        told = {"products": fit.n_iter_}
        transduced_N, distributions_NK = fit.transduction_, fit.label_distributions_
    seconds = time.perf_counter() - began
    found = {
        "rows": rows,
        "labels": num_labels,
        **given,
        **told,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu_began, 2),
        "start_bytes": start_bytes,
        "peak_bytes": peak_bytes(),
        "accuracy": float((transduced_N == truth_N)[labels_N < 0].mean()),
        "unreached": int((distributions_NK.sum(axis=1) == 0).sum()),
        "load_average": round(load, 2),
    }
    if library == "ssl_jax" and (stats := jax.devices()[0].memory_stats()):
        found["device_peak_bytes"] = stats["peak_bytes_in_use"]
    return found, transduced_N


def recall(*, rows: int, sample: int = 1000) -> dict:
    """Which share of the 7 nearest rows, itself among them, the approximate search
    finds for a sample of the rows, and what the search alone takes."""
    features_ND, _ = clusters(rows)
    began = time.perf_counter()
    found_Nk = similarity.neighbor_lists(features_ND, NEIGHBORS, "approximate")
    seconds = time.perf_counter() - began
    rng = np.random.default_rng(1)
    sample_M = rng.choice(rows, min(sample, rows), replace=False)
    square_N, right = (features_ND**2).sum(axis=1), 0
    for row in sample_M:
        distance_N = square_N - 2 * (features_ND @ features_ND[row])
        nearest_k = np.argpartition(distance_N, NEIGHBORS)[:NEIGHBORS]
        right += np.isin(found_Nk[row], nearest_k).sum()
    share = float(right / sample_M.size / NEIGHBORS)
    return {"recall": share, "search_seconds": round(seconds, 2)}


def clusters(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(features_ND float32, truth_N) of SPREAD."""
    rng = np.random.default_rng(0)
    centers_KD = (SPREAD * rng.standard_normal((10, FEATURES))).astype(np.float32)
    truth_N = rng.integers(0, 10, rows)
    features_ND = rng.standard_normal((rows, FEATURES), dtype=np.float32)
    features_ND += centers_KD[truth_N]
    return features_ND, truth_N


def mnist(data_dir: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(pixels_ND float32 in [0, 1], truth_N) of the first training images."""
    dataset = sources.load("mnist", data_dir=data_dir)
    pixels_ND = np.asarray(dataset.images_NHWC[:rows]).reshape(rows, -1)
    return pixels_ND.astype(np.float32) / 255, np.asarray(dataset.labels_N[:rows])


def few(truth_N: np.ndarray, num_labels: int) -> np.ndarray:
    """The truth of num_labels rows, as many of each of ten classes; -1 elsewhere."""
    rng = np.random.default_rng(0)
    labels_N = np.full(len(truth_N), -1)
    for c in range(10):
        of_class = np.flatnonzero(truth_N == c)
        labels_N[rng.choice(of_class, num_labels // 10, replace=False)] = c
    return labels_N


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table(results: dict) -> str:
    """README's tables of one machine."""
    machine = results["machine"]
    said = f"{machine['device']['kind']}, {machine['cpus']} CPU cores"
    parts = [of_mnist(results, said)] if set(PARTS[:2]) & set(results) else []
    if "scale" in results:
        parts.append(of_scale(results["scale"], said))
    return "\n\n".join(parts)


def of_mnist(results: dict, said: str) -> str:
    knn = results.get("mnist_knn", {"rounds": {}})
    fits = {"rbf in blocks": [results[PARTS[0]]] if PARTS[0] in results else []}
    for name, rounds in knn["rounds"].items():
        graph = rounds[0].get("graph", name)
        fits[f"{NEIGHBORS} neighbours, {graph}"] = rounds
    lines = [
        [
            name,
            f"{statistics.median(e['seconds'] for e in rounds):,.1f}",
            f"{max(e['peak_bytes'] for e in rounds) / GIB:.2f}",
            f"{rounds[0]['products']}",
            f"{100 * rounds[0]['accuracy']:.2f}",
        ]
        for name, rounds in fits.items()
        if rounds
    ]
    entry = next(rounds for rounds in fits.values() if rounds)[0]
    matrix = 8e-9 * entry["rows"] ** 2
    lines.append(["rbf, scikit-learn", "", f"{matrix:.1f} GB a matrix", "", ""])
    header = ["graph", "seconds", "peak GiB", "products", "accuracy, %"]
    parts = [
        f"MNIST, {entry['rows']:,} images, {entry['labels']} labels, on {said}; "
        "accuracy on the other images, peak memory of the whole process:",
        report.markdown_table(header, lines),
    ]
    for name, ratio in knn.get("ratio", {}).items():
        parts.append(
            f"{fits_name(knn, name)} neighbours: {ratio:.1f} times as fast as "
            f"scikit-learn's in turn with it, {100 * knn['same_labels'][name]:.2f}% of "
            "the labels equal."
        )
    return "\n\n".join(parts)


def fits_name(knn: dict, name: str) -> str:
    return knn["rounds"][name][0]["graph"].capitalize()


def of_scale(scale: dict, said: str) -> str:
    """A line for each number of rows, a column for each of LINES."""
    by_rows = {}
    for entry in scale.values():
        by_rows.setdefault(entry["rows"], {})[entry["line"]] = entry
    lines = []
    for rows, found in sorted(by_rows.items()):
        recall = found.get("ssl_jax knn", {}).get("recall")
        line = [f"{rows:,}", *(cell(found.get(name), name, rows) for name in LINES)]
        lines.append([*line, "" if recall is None else f"{100 * recall:.1f}"])
    labels = ", ".join(sorted({f"{e['labels']:,}" for e in scale.values()}))
    caption = (
        f"{FEATURES} features, 10 Gaussian classes that the best possible classifier "
        f"tells apart in 98.2% of the rows, {labels} labels, on {said}: seconds, peak "
        "memory of the whole process and accuracy; recall of the neighbours in % where "
        "they are approximate:"
    )
    header = ["rows", *LINES, "recall"]
    return f"{caption}\n\n{report.markdown_table(header, lines)}"


def cell(entry: dict | None, line: str, rows: int) -> str:
    if entry is not None:
        memory = f"{entry['peak_bytes'] / GIB:.2f} GiB"
        return f"{entry['seconds']:,.1f} s, {memory}, {100 * entry['accuracy']:.1f}%"
    if line == "scikit-learn rbf" and rows > LINES[line][-1]:
        return f"needs {8e-9 * rows**2:,.0f} GB a matrix"
    return ""


def cost(scale: dict) -> Figure:
    """Seconds and peak memory against rows."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle("label spreading: what a fit takes")
    panels = {"seconds": 1, "peak_bytes": GIB}
    for axes, (field, unit) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for line, color, marker in zip(
            LINES, figures.PALETTE, figures.MARKERS, strict=False
        ):
            entries = [e for e in scale.values() if e["line"] == line]
            points = sorted((e["rows"], e[field] / unit) for e in entries)
            style = "--" if line.startswith("scikit") else "-"
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, marker=marker)
                axes.lines[-1].set_label(line.replace("knn", f"{NEIGHBORS} neighbours"))
        axes.set(xscale="log", yscale="log", xlabel="rows")
        axes.grid(alpha=0.3, which="both")
    axes.set(ylabel="peak memory of the process, GiB")
    figure.axes[0].set(ylabel="seconds")
    rows = np.geomspace(SIZES[0], 100_000, 9)
    axes.plot(rows, 8 * rows**2 / GIB, ":", color="gray", label="one N x N matrix")
    axes.legend()
    return figure


if __name__ == "__main__":
    app.run(main)

"""Label spreading past scikit-learn's limit: tables and a figure.

python -m experiments.speed.label_spreading_scale --data_dir=DIR
    [--parts=mnist_rbf --parts=million ...] [--rounds=3] [--gamma=0.5] [--smoke]

* mnist_rbf: exact rbf in blocks on MNIST's 60,000 training images, 100 labels.
* mnist_knn: the same by 7 neighbours, exact and approximate, in turn with
  scikit-learn's, round after round, so that other load meets all alike.
* million, scale: 1,000,000 rows of 64 features, and 10,000 to 300,000, by the graph
  that graph="auto" chooses; and scikit-learn's, as far as it goes.

Every fit is a process of its own, so that its peak memory is its own: with the
interpreter, the libraries and the features, of which `start_bytes` tells. Seconds are
of the fit with all that it compiles. What is measured is added to the device's line of
experiments/results/label_spreading_scale.jsonl at once; parts measured earlier stay
there. --smoke tries everything at a hundredth of the size, in runs/. A GPU is quick
enough for --graph=exact, which needs no faiss.
"""

import json
import os
import resource
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import sklearn
from absl import app, flags
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import LabelSpreading

from experiments import readme
from experiments.speed.tables import (
    FEATURES,
    LINES,
    NEIGHBORS,
    PARTS,
    SIZES,
    cost,
    of_spreading,
)
from ssl_jax import core
from ssl_jax.algorithms import label_spreading
from ssl_jax.data import sources
from ssl_jax.graphs import approximate
from ssl_jax.workdir import results
from ssl_jax.workdir.files import write_figure

TRIED = Path("runs/label_spreading_scale_smoke")
# 10 Gaussians of unit covariance around centers drawn by N(0, SPREAD^2): the best
# possible classifier, which knows the centers, is right on BAYES of the rows.
SPREAD, SCALE_GAMMA = 0.6, 0.1
OPTIONS = dict(alpha=0.2, max_iter=30, tol=1e-3)

DATA_DIR = flags.DEFINE_string("data_dir", "", "as config.data.dir, for MNIST")
CHOSEN = flags.DEFINE_multi_enum("parts", None, PARTS, "what to measure; default: all")
ROUNDS = flags.DEFINE_integer("rounds", 3, "of mnist_knn; the median counts")
GAMMA = flags.DEFINE_float("gamma", 0.5, "of mnist_rbf")
SOLVER = flags.DEFINE_enum("solver", "iteration", ["iteration", "cg"], "of mnist_rbf")
GRAPH = flags.DEFINE_enum(
    "graph", "auto", ["auto", "exact", "approximate"], "of scale and million, ours"
)
RESULTS = flags.DEFINE_string("results", "", "their folder; experiments/results")
SMOKE = flags.DEFINE_bool("smoke", False, "a hundredth of the size, into runs/")


def main(_):
    folder, shrink = (TRIED, 100) if SMOKE.value else (readme.RESULTS, 1)
    folder = Path(RESULTS.value or folder)
    machine = alone(machine_of)
    device = machine["device"]["kind"].lower().replace(" ", "_")
    path = folder / "label_spreading_scale.jsonl"
    (found,) = results.read_table(path).get(device, [{"machine": machine}])
    if found["machine"] != machine:
        sys.exit(
            f"{device} in {path} is of another machine or other versions: remove that "
            "line first."
        )
    mnist = dict(data_dir=DATA_DIR.value, rows=60_000 // shrink, num_labels=100)

    def keep(part, measured):
        found[part] = found.get(part, {}) | measured
        results.add_to_table(path, device, found)
        print(json.dumps({part: measured}, indent=1), flush=True)

    for part in CHOSEN.value or PARTS:
        if part == "mnist_rbf":
            given = dict(gamma=GAMMA.value, solver=SOLVER.value, graph="blocks")
            measured, _ = alone(measure, library="ssl_jax", **mnist, **given)
            keep(part, measured)
        elif part == "mnist_knn":
            keep(part, against_sklearn(mnist, ROUNDS.value))
        else:
            for line, rows in of_part(part):
                measured = at_scale(line, rows, shrink, GRAPH.value)
                keep("scale", {f"{line}, {measured['rows']:,} rows": measured})
    print(of_spreading(found))
    if device == "cpu" and "scale" in found:
        write_figure(path.with_suffix("") / "fits_cost.png", cost(found["scale"]))
    if folder == readme.RESULTS:
        readme.fill()


def alone(function, **given):
    """The function's value, from a new process that then ends."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, **given).result()


def machine_of() -> dict:
    return {
        "device": results.device(core.make_mesh()),
        "cpus": os.cpu_count(),
        "versions": {**results.versions(), "scikit-learn": sklearn.__version__},
    }


def of_part(part: str) -> list[tuple[str, int]]:
    """(line, rows) of each fit; the million alone, as it decides and takes longest."""
    pairs = [(line, rows) for line, sizes in LINES.items() for rows in sizes]
    return [pair for pair in pairs if (pair[1] == SIZES[-1]) == (part == "million")]


def at_scale(line: str, rows: int, shrink: int, graph: str = "auto") -> dict:
    library, kernel = line.split()
    tried = shrink > 1 and rows == SIZES[-1]  # where "auto" would still be exact
    given = dict(gamma=SCALE_GAMMA) if kernel == "rbf" else dict(n_neighbors=NEIGHBORS)
    if library == "ssl_jax":
        given["graph"] = "approximate" if tried and graph == "auto" else graph
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
    found_Nk = approximate.neighbor_lists(features_ND, NEIGHBORS)
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


if __name__ == "__main__":
    app.run(main)

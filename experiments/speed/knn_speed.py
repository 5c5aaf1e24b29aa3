"""Seconds of k-NN classification: here, and by scikit-learn's brute force.

python -m experiments.speed.knn_speed [--queries=10000] [--bank=50000] [--features=512]
    [--rounds=3] [--keep=cpu]

With --keep, a line of experiments/results/knn_speed.jsonl of that name.

Both classify the same float32 features with the same 5 neighbours, in turn, round
after round, so that other load meets both alike. The 200 neighbours weighted by cosine
similarity are timed as well. Compilation is timed apart: a shape needs it once.
"""

import os
import statistics
import time

import jax
import numpy as np
import sklearn
from absl import app, flags
from sklearn.neighbors import KNeighborsClassifier

from experiments import jobs
from ssl_jax import core
from ssl_jax.graphs import neighbors
from ssl_jax.workdir import results

QUERIES = flags.DEFINE_integer("queries", 10_000, "images to classify")
BANK = flags.DEFINE_integer("bank", 50_000, "images with labels")
FEATURES = flags.DEFINE_integer("features", 512, "features of an image")
ROUNDS = flags.DEFINE_integer("rounds", 3, "measurements; the median counts")
KEEP = flags.DEFINE_string("keep", "", "name to keep the result by: the device")
NUM_CLASSES = 10


def main(_):
    results = measure(QUERIES.value, BANK.value, FEATURES.value, rounds=ROUNDS.value)
    jobs.keep("knn_speed", KEEP.value, results)


def measure(queries: int, bank: int, features: int, *, rounds: int) -> dict:
    """Seconds of each, the median of `rounds`, and the median ratio.

    scikit-learn is timed with its default and with n_jobs=2; the ratio of a round is
    to the faster of the two.
    """
    bank_ND, labels_N = class_clusters(0, bank, features)
    queries_MD, truth_M = class_clusters(1, queries, features)

    def here(k, metric):
        predictions_M = neighbors.classify(
            queries_MD, bank_ND, labels_N, num_classes=NUM_CLASSES, k=k, metric=metric
        )
        return np.asarray(predictions_M)

    def by_sklearn(n_jobs):
        classifier = KNeighborsClassifier(5, algorithm="brute", n_jobs=n_jobs)
        return classifier.fit(bank_ND, labels_N).predict(queries_MD)

    runs = {
        "ssl_jax": lambda: here(5, "euclidean"),
        "sklearn": lambda: by_sklearn(None),
        "sklearn_2_jobs": lambda: by_sklearn(2),
        "ssl_jax_cosine_200": lambda: here(200, "cosine"),
    }
    first, load_before = {}, os.getloadavg()[0]
    for name in ("ssl_jax", "ssl_jax_cosine_200"):
        began = time.perf_counter()
        runs[name]()
        first[name] = time.perf_counter() - began
    seconds, predictions = {name: [] for name in runs}, {}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            predictions[name] = run()
            seconds[name].append(time.perf_counter() - began)

    by_round = zip(
        seconds["ssl_jax"], seconds["sklearn"], seconds["sklearn_2_jobs"], strict=True
    )
    ratios = [min(theirs) / ours for ours, *theirs in by_round]
    median = statistics.median
    return {
        "seconds": {name: round(median(s), 3) for name, s in seconds.items()},
        "ratio": round(median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "rounds": {n: [round(t, 3) for t in s] for n, s in seconds.items()},
        "first_call_seconds": {n: round(t, 3) for n, t in first.items()},
        "different_predictions": {
            name: int((predictions["ssl_jax"] != predictions[name]).sum())
            for name in ("sklearn", "sklearn_2_jobs")
        },
        "accuracy": {n: float((p == truth_M).mean()) for n, p in predictions.items()},
        "split_votes": split_votes(queries_MD, bank_ND, labels_N),
        "queries": queries,
        "bank": bank,
        "features": features,
        "device": results.device(core.make_mesh(jax.devices()[:1])),
        "cpus": os.cpu_count(),
        "load_average": {
            "before": round(load_before, 2),
            "after": round(os.getloadavg()[0], 2),
        },
        "versions": {**results.versions(), "scikit-learn": sklearn.__version__},
    }


def split_votes(queries_MD, bank_ND, labels_N) -> float:
    """The share of queries whose 5 neighbours do not agree."""
    _, index_M5 = neighbors.nearest(queries_MD, bank_ND, 5, metric="euclidean")
    votes_M5 = labels_N[np.asarray(index_M5)]
    return float((votes_M5 != votes_M5[:, :1]).any(axis=1).mean())


def class_clusters(seed: int, rows: int, features: int):
    """float32 features and labels: overlapping classes in a few directions, after a
    random layer with ReLU, as an encoder's average-pooled features are."""
    fixed = np.random.default_rng(1234)
    centers_KL = fixed.normal(size=(NUM_CLASSES, 64))
    layer_LD = fixed.normal(size=(64, features)) / 8
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, NUM_CLASSES, rows)
    latent_NL = 0.5 * centers_KL[labels_N] + rng.normal(size=(rows, 64))
    return np.maximum(latent_NL @ layer_LD, 0).astype(np.float32), labels_N


if __name__ == "__main__":
    app.run(main)

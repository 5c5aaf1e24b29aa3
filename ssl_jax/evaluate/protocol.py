"""A representation judged: k-NN and linear probes of features extracted once.

Every hyper-parameter of a probe is chosen on held-out training images, and the test set
is looked at once, at the end.
"""

from dataclasses import dataclass

import numpy as np

from ssl_jax.core import fetch
from ssl_jax.core.ranges import Count, Positive, Some, Whole
from ssl_jax.evaluate import probes
from ssl_jax.evaluate.batches import Features
from ssl_jax.graphs import neighbors

BASELINES = ("random", "pixels")  # what learned features may be judged beside


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a probe does beside k-NN with 5 and with 200 neighbours."""

    epochs: Count = 80  # of SGD, BYOL's linear protocol (arXiv:2006.07733, appendix C)
    batch_size: Count = 1024  # of SGD
    learning_rates: Some[Positive] = (0.4, 0.3, 0.2, 0.1, 0.05)  # to choose from
    # to choose from, of L-BFGS
    l2s: Some[Positive] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    folds: Count = 5  # parts of the labeled images, each held out once to choose
    baselines: tuple[str, ...] = ("random",)  # judged alike: also "pixels"
    map_images: Whole = 1000  # test images on the map of features; 0: no figures


def judge(
    protocol: Protocol, train: Features, test: Features, num_classes: int, seed: int
) -> dict[str, dict]:
    """Test accuracies of given features: {"knn_5": {"accuracy"}, "knn_200", "sgd",
    "logistic"}, the last two with what was chosen on held-out training images."""
    knn = dict(
        knn_5=dict(k=5, metric="euclidean", temperature=1.0),  # arXiv:2007.06346
        knn_200=dict(k=200, metric="cosine", temperature=0.1),  # arXiv:1805.01978
    )
    scores = {
        name: {
            "accuracy": _share(
                classify(train, test[0], num_classes=num_classes, **how) == test[1]
            )
        }
        for name, how in knn.items()
    }
    common = dict(num_classes=num_classes, num_folds=protocol.folds, seed=seed)
    fitted = {
        "sgd": probes.sgd(
            *train,
            learning_rates=protocol.learning_rates,
            epochs=protocol.epochs,
            batch_size=protocol.batch_size,
            **common,
        ),
        "logistic": probes.logistic_regression(*train, l2s=protocol.l2s, **common),
    }
    for name, probe in fitted.items():
        predicted_M = np.asarray(probes.logits(probe, test[0])).argmax(-1)
        scores[name] = {
            "accuracy": _share(predicted_M == test[1]),
            "chosen": probe.chosen,
            "held_out": {f"{value:g}": a for value, a in probe.held_out.items()},
            "converged": probe.converged,
        }
    return scores


def classify(bank: Features, features_MD: np.ndarray, *, k: int, **how) -> np.ndarray:
    """Classes by `neighbors.classify` among the bank's k nearest, or all where they are
    fewer: predicted_M."""
    k = min(k, len(bank[0]))
    return np.asarray(neighbors.classify(features_MD, *bank, k=k, **how))


def pixels(batches: list[dict]) -> Features:
    """The images themselves as features, 0 to 1."""
    kept = []
    for batch in batches:  # once: a stream's are read anew each time
        batch = fetch(batch)
        kept.append((batch["image"][batch["mask"]], batch["label"][batch["mask"]]))
    images, labels = map(np.concatenate, zip(*kept, strict=True))
    return images.reshape(len(images), -1) / np.float32(255), labels


def _share(right_M):
    return float(right_M.mean())

"""A representation judged: features extracted once, then k-NN and linear probes.

The labels used are those that the run was granted; every hyper-parameter of a probe is
chosen on held-out ones of them, and the test set is looked at once, at the end.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from clu.metrics import Average
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax import figures, neighbors, probes
from ssl_jax.checkpoints import Checkpoints
from ssl_jax.core import TrainState, UserError, mean
from ssl_jax.data import feeds
from ssl_jax.phases import Phase, initialise, like
from ssl_jax.run_data import EVAL_BATCH, Data

Features = tuple[np.ndarray, np.ndarray]  # features_ND float32, labels_N int32


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a probe does beside k-NN with 5 and with 200 neighbours."""

    epochs: int = 80  # of SGD, BYOL's linear protocol (arXiv:2006.07733, appendix C)
    batch_size: int = 1024  # of SGD
    learning_rates: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.05)  # to choose from
    # to choose from, of L-BFGS
    l2s: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    folds: int = 5  # parts of the labeled images, each held out once to choose
    baselines: tuple[str, ...] = ("random",)  # judged alike: also "pixels"
    map_images: int = 1000  # test images on the map of features; 0: no figures

    def __post_init__(self):
        if unknown := set(self.baselines) - {"random", "pixels"}:
            raise UserError(
                f"baselines names {sorted(unknown)}; there are random and pixels."
            )
        for name in ("epochs", "batch_size", "folds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("learning_rates", "l2s"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise UserError(f"{name}={values} must be one or more numbers above 0.")


def compile_features(phase: Phase) -> Callable[[TrainState, list[dict]], Features]:
    """extract(state, padded batches) -> features and labels on the host, unpadded.

    Raises:
      UserError: the phase's algorithm has no features.
    """
    if not hasattr(phase.algorithm, "features"):
        raise UserError(f"{phase.config.algorithm.name} learns no features to probe.")
    rows = NamedSharding(phase.mesh, P("data"))
    compiled = jax.jit(phase.algorithm.features)

    def extract(state, batches):
        with jax.set_mesh(phase.mesh):
            parts = [compiled(state, jax.device_put(b, rows)) for b in batches]
        kept = [np.asarray(b["mask"]) for b in batches]
        labels = [np.asarray(b["label"]) for b in batches]
        return tuple(
            np.concatenate([np.asarray(x)[k] for x, k in zip(part, kept, strict=True)])
            for part in (parts, labels)
        )

    return extract


def labeled_batches(data: Data, phase: Phase) -> list[dict]:
    """The images whose labels the run was granted, as padded batches on the host."""
    rows = data.split.labeled
    return feeds.padded_batches(
        data.dataset.images_NHWC[rows],
        data.dataset.labels_N[rows],
        batch=EVAL_BATCH,
        num_devices=phase.mesh.size,
    )


def compile_knn(phase: Phase, data: Data) -> Callable[[TrainState], Average]:
    """knn(state) -> accuracy on the test images by the phase's `knn` neighbours.

    Euclidean, by majority (arXiv:2007.06346 with 5), among the labeled images.
    """
    extract, labeled = compile_features(phase), labeled_batches(data, phase)

    def knn(state):
        bank, test = extract(state, labeled), extract(state, data.eval_sets["test"])
        predicted_M = _classify(
            bank, test, data, k=phase.config.knn, metric="euclidean", temperature=1.0
        )
        return mean(predicted_M == test[1])

    return knn


def judge(protocol: Protocol, train: Features, test: Features, data: Data, seed: int):
    """Test accuracies of given features: {"knn_5": {"accuracy"}, "knn_200", "sgd",
    "logistic"}, the last two with what was chosen on held-out training images."""
    knn = dict(
        knn_5=dict(k=5, metric="euclidean", temperature=1.0),  # arXiv:2007.06346
        knn_200=dict(k=200, metric="cosine", temperature=0.1),  # arXiv:1805.01978
    )
    scores = {
        name: {"accuracy": _share(_classify(train, test, data, **how) == test[1])}
        for name, how in knn.items()
    }
    common = dict(
        num_classes=len(data.dataset.class_names), num_folds=protocol.folds, seed=seed
    )
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


def probe(
    protocol: Protocol,
    phase: Phase,
    data: Data,
    folder: Path,
    prefix: Path,
    stopping: Callable[[], bool] = lambda: False,
) -> dict | None:
    """Judges what `phase` has learned by its newest checkpoint; None when `stopping()`
    ended it early, and nothing is kept.

    Args:
      folder: of the phase: <workdir>/<phase>.
      prefix: of the figures to draw, <workdir>/figures/<name>.

    Returns:
      {"probe": {"learned", and each baseline: scores as `judge` gives them}, "phase",
      "step", "labels", "seconds", "test": the logistic regression's accuracy}.

    Raises:
      UserError: there is no checkpoint, or none that can be read, or the algorithm has
        no features.
    """
    began = time.monotonic()
    extract = compile_features(phase)
    with Checkpoints(folder / "checkpoints") as checkpoints, jax.set_mesh(phase.mesh):
        if not checkpoints.steps:
            raise UserError(
                f"there is no checkpoint in {checkpoints.folder} yet: train "
                f"{phase.name!r} first."
            )
        step = checkpoints.steps[-1]
        state = checkpoints.restore(step, like(phase))["state"]
        fresh = initialise(phase) if "random" in protocol.baselines else None
    labeled, held_out = labeled_batches(data, phase), data.eval_sets["test"]
    sets = {"learned": (extract(state, labeled), extract(state, held_out))}
    if fresh is not None:
        sets["random"] = extract(fresh, labeled), extract(fresh, held_out)
    if "pixels" in protocol.baselines:
        sets["pixels"] = _pixels(labeled), _pixels(held_out)
    seed = int(jax.random.randint(phase.key, (), 0, 2**31 - 1))
    scores = {}
    for name, (train, test) in sets.items():
        if stopping():
            return None
        scores[name] = judge(protocol, train, test, data, seed)
    if protocol.map_images:
        _draw(protocol, phase, data, *sets["learned"], prefix)
    return {
        "phase": phase.name,
        "step": step,
        "labels": len(data.split.labeled),
        "probe": scores,
        "seconds": time.monotonic() - began,
        "test": {"accuracy": scores["learned"]["logistic"]["accuracy"]},
    }


def check(config: ConfigDict, name: str, earlier: tuple[str, ...]) -> Protocol:
    """The protocol of the section `name`, which probes one of the phases `earlier`.

    Raises:
      UserError: it does not, or a number in it makes no sense.
    """
    section = config[name].to_dict()
    start_from = section.pop("start_from")
    trained = [phase for phase in earlier if "algorithm" in config[phase]]
    if start_from not in trained:
        raise UserError(
            f"{name}.start_from={start_from!r} must be an earlier phase of this run "
            f"that trains ({', '.join(trained) or 'there is none'}); to probe another "
            "run: launch.py --mode=probe --workdir=W."
        )
    fields = {field.name for field in dataclasses.fields(Protocol)}
    if section.keys() != fields:
        raise UserError(f"a probe has the fields {', '.join(sorted(fields))}.")
    return Protocol(**section)


def check_folds(protocol: Protocol, num_labels: int) -> None:
    """Raises UserError unless there is a label for each fold, and five for one."""
    if num_labels < max(protocol.folds, 5 if protocol.folds == 1 else 0):
        raise UserError(
            f"folds={protocol.folds} needs more than {num_labels} labels: use fewer "
            "folds, or a larger data.num_labels."
        )


def _draw(protocol, phase, data, train, test, prefix):
    """The map of the features, and the neighbours of ten test images."""
    title = f"{phase.title}: test images"
    shown = slice(0, protocol.map_images)
    figures.save_feature_map(
        prefix, title, test[0][shown], test[1][shown], data.dataset.class_names
    )
    queries = np.arange(10) * (len(test[0]) // 10)
    _, index_Qk = neighbors.nearest(test[0][queries], train[0], 5, metric="cosine")
    rows_Qk = data.split.labeled[np.asarray(index_Qk)]
    same_class_Qk = data.dataset.labels_N[rows_Qk] == test[1][queries][:, None]
    figures.save_neighbors(
        prefix,
        f"{phase.title}: nearest labeled images",
        data.dataset.test_images_MHWC[queries],
        data.dataset.images_NHWC[rows_Qk],
        same_class_Qk,
    )


def _classify(bank, test, data, **how):
    num_classes = len(data.dataset.class_names)
    how["k"] = min(how["k"], len(bank[0]))
    predicted_M = neighbors.classify(test[0], *bank, num_classes=num_classes, **how)
    return np.asarray(predicted_M)


def _pixels(batches):
    """The images themselves as features, 0 to 1."""
    images = np.concatenate([b["image"][np.asarray(b["mask"])] for b in batches])
    labels = np.concatenate([b["label"][np.asarray(b["mask"])] for b in batches])
    return images.reshape(len(images), -1) / np.float32(255), labels


def _share(right_M):
    return float(right_M.mean())

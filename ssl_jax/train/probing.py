"""A representation judged: features extracted once, then k-NN and linear probes.

The labels used are those that the run was granted; every hyper-parameter of a probe is
chosen on held-out ones of them, and the test set is looked at once, at the end.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from clu.metrics import Average
from ml_collections import ConfigDict

from ssl_jax.core import TrainState, mean
from ssl_jax.data import placement
from ssl_jax.data.loading import Data
from ssl_jax.data.placement import EVAL_BATCH
from ssl_jax.errors import UserError
from ssl_jax.evaluate.batches import compile_features
from ssl_jax.evaluate.protocol import Protocol, _classify, _pixels, judge
from ssl_jax.graphs import neighbors
from ssl_jax.report.figures import images
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import initialise, like
from ssl_jax.workdir.checkpoints import Checkpoints


def labeled_batches(data: Data, phase: Phase) -> list[dict]:
    """The images whose labels the run was granted, as padded batches on the host."""
    rows = data.split.labeled
    return placement.padded_batches(
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
    images.save_feature_map(
        prefix, title, test[0][shown], test[1][shown], data.dataset.class_names
    )
    queries = np.arange(10) * (len(test[0]) // 10)
    _, index_Qk = neighbors.nearest(test[0][queries], train[0], 5, metric="cosine")
    rows_Qk = data.split.labeled[np.asarray(index_Qk)]
    same_class_Qk = data.dataset.labels_N[rows_Qk] == test[1][queries][:, None]
    images.save_neighbors(
        prefix,
        f"{phase.title}: nearest labeled images",
        data.dataset.test_images_MHWC[queries],
        data.dataset.images_NHWC[rows_Qk],
        same_class_Qk,
    )

"""A phase judged by the features that it has learned, as it trains or afterwards.

The labels used are those that the run was granted.
"""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from clu.metrics import Average

from ssl_jax.core import Batch, TrainState, can, mean
from ssl_jax.data.loading import Data
from ssl_jax.data.placement import EVAL_BATCH, padded_batches
from ssl_jax.errors import UserError
from ssl_jax.evaluate import protocol
from ssl_jax.evaluate.batches import compile_features
from ssl_jax.evaluate.protocol import Protocol
from ssl_jax.graphs import neighbors
from ssl_jax.report import figures
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import initialise, like
from ssl_jax.workdir import handover, logs
from ssl_jax.workdir.workdir import Workdir


def labeled_batches(data: Data, phase: Phase) -> Sequence[Batch]:
    """The images whose labels the run was granted, as padded batches on the host."""
    return padded_batches(
        data.dataset.images_NHWC,
        data.dataset.labels_N,
        of=data.split.labeled,
        batch=EVAL_BATCH,
        num_devices=phase.mesh.size,
    )


def compile_knn(phase: Phase, data: Data) -> Callable[[TrainState], Average]:
    """knn(state) -> accuracy on the test images by the phase's `knn` neighbours.

    Euclidean, by majority (arXiv:2007.06346 with 5), among the labeled images.
    """
    extract = compile_features(phase.algorithm, phase.mesh)
    labeled, num_classes = labeled_batches(data, phase), len(data.dataset.class_names)

    def knn(state):
        bank, test = extract(state, labeled), extract(state, data.eval_sets["test"])
        how = dict(k=phase.section.knn, metric="euclidean", temperature=1.0)
        predicted_M = protocol.classify(bank, test[0], num_classes=num_classes, **how)
        return mean(predicted_M == test[1])

    return knn


def judge(
    how: Protocol,
    phase: Phase,
    data: Data,
    workdir: Workdir,
    drawn_as: str,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict | None:
    """Judges what `phase` has learned by its newest checkpoint in `workdir`; None when
    `interrupted()` ended it early, and nothing is kept.

    Args:
      drawn_as: what the names of the figures begin with.

    Returns:
      The entry in result.json: {"probe": {"learned", and each baseline: scores as
      `protocol.judge` gives them}, "phase", "step", "labels", "seconds", "test": the
      logistic regression's accuracy}.

    Raises:
      UserError: there is no checkpoint, or none that can be read, or the algorithm has
        no features.
    """
    began = time.monotonic()
    if not can(phase.algorithm, "features"):
        raise UserError(f"{phase.section.algorithm} learns no features to probe.")
    extract = compile_features(phase.algorithm, phase.mesh)
    with jax.set_mesh(phase.mesh):
        folder = workdir.phase(phase.name)
        step, tree = handover.as_saved(folder, like(phase), finished=False)
        state = tree["state"]
        fresh = initialise(phase) if "random" in how.baselines else None
    labeled, held_out = labeled_batches(data, phase), data.eval_sets["test"]
    logs.say(f"{drawn_as}: features of {phase.name} at step {step}")
    sets = {"learned": (extract(state, labeled), extract(state, held_out))}
    if fresh is not None:
        sets["random"] = extract(fresh, labeled), extract(fresh, held_out)
    if "pixels" in how.baselines:
        sets["pixels"] = protocol.pixels(labeled), protocol.pixels(held_out)
    seed = int(jax.random.randint(phase.key, (), 0, 2**31 - 1))
    num_classes, scores = len(data.dataset.class_names), {}
    for name, (train, test) in sets.items():
        if interrupted():
            return None
        logs.say(f"{drawn_as}: probes of {name}, {len(scores) + 1} of {len(sets)}")
        scores[name] = protocol.judge(how, train, test, num_classes, seed)
    if how.map_images:
        workdir.draw(drawn_as, _figures(how, phase, data, *sets["learned"]))
    return {
        "phase": phase.name,
        "step": step,
        "labels": len(data.split.labeled),
        "probe": scores,
        "seconds": time.monotonic() - began,
        "test": {"accuracy": scores["learned"]["logistic"]["accuracy"]},
    }


def check_folds(how: Protocol, name: str, num_labels: int) -> None:
    """Raises UserError unless there is a label for each fold, and five for one.

    Args:
      name: of the section that says so.
    """
    if num_labels < max(how.folds, 5 if how.folds == 1 else 0):
        raise UserError(
            f"{name}.folds={how.folds} needs more than {num_labels} labels: use fewer "
            "folds, or a larger data.num_labels."
        )


def _figures(how, phase, data, train, test):
    """The map of the features, and the neighbours of ten test images."""

    def feature_map():
        shown = slice(0, how.map_images)
        return figures.images.feature_map(
            figures.images.projections(test[0][shown]),
            test[1][shown],
            data.dataset.class_names,
            f"{phase.title}: test images",
        )

    def nearest():
        queries = np.arange(10) * (len(test[0]) // 10)
        _, index_Qk = neighbors.nearest(test[0][queries], train[0], 5, metric="cosine")
        rows_Qk = data.split.labeled[np.asarray(index_Qk)]
        return figures.images.nearest_neighbors(
            data.dataset.test_images_MHWC[queries],
            data.dataset.images_NHWC[rows_Qk],
            data.dataset.labels_N[rows_Qk] == test[1][queries][:, None],
            f"{phase.title}: nearest labeled images",
        )

    return {"feature_map": feature_map, "neighbors": nearest}

"""Rounds of self-training: a phase whose labels an earlier phase's predictions give.

A phase with `labels_from` trains on the labeled images and on those unlabeled ones of
which that phase, its teacher, is sure. The teacher predicts once, before the first step
of the phase, and pseudo_labels.npz in the phase's folder has what it said:

  index, label, confidence [n]: the images taken, each once, as rows of the training
    pool; its pseudo-label, and the probability of that
  all_index [N], all_probs [N, K]: every unlabeled image that was asked about

A run that was stopped goes on by this file. The truth of an image that is not labeled
is counted in the result, and reaches nothing that trains.
"""

import zipfile
from pathlib import Path

import jax
import numpy as np
from absl import logging

from ssl_jax.core import Metrics
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.data import feeds
from ssl_jax.data.feeds import Labels
from ssl_jax.data.loading import Data
from ssl_jax.data.splits import Split, candidates
from ssl_jax.errors import UserError
from ssl_jax.train import restored
from ssl_jax.train.parts import Trains
from ssl_jax.train.phases import Phase
from ssl_jax.workdir.files import replacing
from ssl_jax.workdir.workdir import Workdir


def check_split(section: Trains, split: Split) -> None:
    """Raises UserError unless there is an image to label for the phase."""
    if not len(candidates(split)):
        raise UserError(
            f"{section.name}.labels_from={section.labels_from!r} has nothing to label: "
            f"all {len(split.unlabeled):,} unlabeled images are among the "
            f"{len(split.labeled):,} labeled ones; use a smaller data.num_labels."
        )


def teach(
    student: Phase, teacher: Phase, data: Data, workdir: Workdir
) -> tuple[Labels, dict, Metrics]:
    """The labeled set of `student`, inside `jax.set_mesh`, and how good it is.

    Returns:
      The granted labels as they are, then the images taken with the teacher's argmax
      and probabilities; {"pseudo_labels": as `summary` gives it}, for its entry in
      result.json; and `pseudo_label_quality` of all that the teacher said, for the
      first row of its journal.

    Raises:
      UserError: the teacher is sure enough of no image, its last checkpoint is missing
        or damaged, or so is what was written before.
    """
    path = workdir.phase(student.name).pseudo_labels
    index_N = candidates(data.split)
    if path.exists():
        probs_NK = _load(path, index_N)
    else:
        probs_of = restored.on_images(teacher, workdir.phase(teacher.name))
        probs_NK = probs_of(data.dataset.images_NHWC, index_N)
    section, names = student.section, data.dataset.class_names
    granted = feeds.granted(data.dataset, data.split)
    labeled_K = np.bincount(granted.label_N, minlength=len(names))
    threshold = section.confidence
    label_N, confidence_N = probs_NK.argmax(-1).astype(np.int32), probs_NK.max(-1)
    chosen = choose(
        probs_NK,
        confidence=threshold,
        per_class=section.per_class,
        share_K=shares(labeled_K, section.rarer_first),
    )
    if not len(chosen):
        raise UserError(
            f"{student.name}.confidence={threshold}: of {len(index_N):,} unlabeled "
            f"images {teacher.name} is so sure of none; its highest confidence is "
            f"{confidence_N.max():.4g}. Use a lower one and another workdir, or train "
            f"{teacher.name} better."
        )
    taken = np.unique(chosen)
    if not path.exists():
        with replacing(path, "wb") as file:
            np.savez(
                file,
                index=index_N[taken],
                label=label_N[taken],
                confidence=confidence_N[taken],
                all_index=index_N,
                all_probs=probs_NK,
            )
    truth_N = data.dataset.labels_N[index_N]
    said = summary(label_N, taken, truth_N, probs_NK.shape[1])
    if empty := [c for c, n in zip(names, said["per_class"], strict=True) if not n]:
        logging.warning(
            "%s is given no pseudo-label of: %s.", student.name, ", ".join(empty)
        )
    given = Labels(index_N[chosen], label_N[chosen], probs_NK[chosen])
    labels = Labels(*map(np.concatenate, zip(granted, given, strict=True)))
    kept_N = np.isin(np.arange(len(label_N)), taken)
    threshold_K = np.full(probs_NK.shape[1], threshold)
    quality = pseudo_label_quality(probs_NK, kept_N, truth_N, threshold_K)
    return labels, {"pseudo_labels": said}, jax.device_get(quality)


def choose(
    probs_NK: np.ndarray, *, confidence: float, per_class: int, share_K: np.ndarray
) -> np.ndarray:
    """Positions 0..N-1 of the images to train on.

    Those whose largest probability is at least `confidence`, and of a predicted class
    the part share_K that is surest of it. With `per_class`, so many of each, its surest
    first and, in a class that has fewer, these again and again: noisy student's
    balancing (arXiv:1911.04252), which repeats at random. A class without any stays
    without.
    """
    label_N, confidence_N = probs_NK.argmax(-1), probs_NK.max(-1)
    kept = np.flatnonzero(confidence_N >= confidence)
    surest = kept[np.argsort(-confidence_N[kept], kind="stable")]
    of_class = [surest[label_N[surest] == c] for c in range(probs_NK.shape[1])]
    part = [
        rows[: int(len(rows) * share + 1e-9)]
        for rows, share in zip(of_class, share_K, strict=True)
    ]
    if not per_class:
        return np.sort(np.concatenate(part))
    even = [np.resize(rows, per_class) for rows in part if len(rows)]
    return np.concatenate([kept[:0], *even])


def shares(labeled_K: np.ndarray, power: float) -> np.ndarray:
    """CReST's share_K of the images that are said to be of a class (arXiv:2102.09559,
    section 3.2): of the l-th most frequent, by their labels N_1 >= N_2 >= ...,
    (N_(K + 1 - l) / N_1)^power. All of the rarest; with a power of 0 of every one."""
    order = np.argsort(-labeled_K, kind="stable")
    share_K = np.empty(len(labeled_K))
    share_K[order] = (labeled_K[order][::-1] / labeled_K.max()) ** power
    return share_K


def summary(
    label_N: np.ndarray, taken: np.ndarray, truth_N: np.ndarray, num_classes: int
) -> dict:
    """How many of N pseudo-labels are `taken` (positions, each once), and how good.

    The accuracies are over the images whose truth is known, and None without any;
    per_class counts the images taken by their pseudo-label.
    """
    kept_N = np.isin(np.arange(len(label_N)), taken)
    right_N, known_N = label_N == truth_N, truth_N >= 0

    def share(of_N):
        return float(right_N[of_N].mean()) if of_N.any() else None

    return {
        "kept": len(taken),
        "of": len(label_N),
        "share_kept": len(taken) / len(label_N),
        "kept_accuracy": share(kept_N & known_N),
        "rejected_accuracy": share(~kept_N & known_N),
        "per_class": np.bincount(label_N[taken], minlength=num_classes).tolist(),
    }


def _load(path: Path, index_N: np.ndarray) -> np.ndarray:
    """probs_NK of the images `index_N`, as `teach` wrote them."""
    try:
        with path.open("rb") as file, np.load(file) as saved:
            saved_index_N, probs_NK = saved["all_index"], saved["all_probs"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}): delete it, and run the same command to "
            "have the images labeled again."
        ) from error
    if not np.array_equal(saved_index_N, index_N):
        raise UserError(
            f"{path} labels other images than the run has unlabeled: its data has "
            "changed since; give another --workdir."
        )
    return probs_NK

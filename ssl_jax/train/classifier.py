"""A finished run without its data: what its workdir holds is enough.

Shape and classes are in inventory.json, normalisation and network in config.json, the
weights in a phase's checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Algorithm, PyTree, TrainState, can, make_mesh
from ssl_jax.data import given_images
from ssl_jax.data.placement import EVAL_BATCH
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError
from ssl_jax.train import phases, restored
from ssl_jax.train.parts import Run, Trains
from ssl_jax.workdir import handover
from ssl_jax.workdir.workdir import Workdir

# What may be asked, as the contract calls it, and how a batch is.
_ASKED = {
    "predict": restored.probabilities,
    "features": lambda algorithm, state, batch: algorithm.features(state, batch),
}


@dataclass(frozen=True, eq=False)
class Classifier:
    """What a run has learned, to be asked about images; `of_run` makes one.

        classifier = ssl_jax.load("runs/second")
        classifier.predict("new.jpg")
        classifier.predict_proba(images_BHWC)

    Images are names of files, Pillow's, or arrays, one or several
    (`data.given_images.blocks` has them all); they are brought to the size and colours
    of the run's own as those were, and what could be meant in two ways is refused. The
    result has a row for each, also for one. By the weights that the run was judged by.
    """

    workdir: Path
    phase: str  # whose network it is
    method: str  # "fixmatch.FixMatch"
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]  # (H, W, C) that images are brought to
    reading: Reading  # how files are
    algorithm: Algorithm = field(repr=False)
    state: TrainState = field(repr=False)  # without the optimizer's
    said: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(repr=False)

    def predict(self, images: Any) -> np.ndarray:
        """The name of each image's most probable class, [B].

        Raises:
          UserError: as `predict_proba`.
        """
        return np.array(self.class_names)[self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: Any) -> np.ndarray:
        """probs_BK float32; columns are `class_names`.

        Raises:
          UserError: as `asked`, or something is no image (`given_images.blocks`).
        """
        return self._of(images, "predict")

    def features(self, images: Any) -> np.ndarray:
        """features_BD float32: what a linear head or k-NN would see.

        Raises:
          UserError: as `predict_proba`.
        """
        return self._of(images, "features")

    def asked(self, what: str) -> Callable[[np.ndarray], np.ndarray]:
        """A function of uint8 images_BHWC of the run's shape: probs_BK of "predict",
        features_BD of "features".

        Raises:
          UserError: the method, or the run, has no such.
        """
        if what in self.said:
            return self.said[what]
        if what == "features":
            raise UserError(f"{self.method} learns no features.")
        if not self.class_names:
            raise restored.no_classes(self.workdir)
        raise UserError(
            f"the phase {self.phase!r} in {self.workdir} classifies no images: "
            f"{self.method} learns no classes; --mode=embed writes its features, and "
            "--mode=export its encoder into a .safetensors."
        )

    def _of(self, images, what):
        said = self.asked(what)
        blocks = given_images.blocks(images, self.shape, self.reading)
        return np.concatenate([said(images_BHWC) for images_BHWC in blocks])


def of_run(run: Run, workdir: Workdir, phase: str = "") -> Classifier:
    """What the finished run in `workdir` has learned: of the phase of that name, or
    else of the last that classifies images (or of the last with features, where none
    does).

    Args:
      run: its configuration, by `sections.parse` with to_train=False.

    Raises:
      UserError: it is not trained to its end, is of another network, has no such phase,
        or one that learned from a graph.
    """
    restored.check_single(run, workdir)
    section = _section(run, workdir, phase)
    folder = restored.finished(section, workdir)
    workdir.check(run.config, "model", f"{section.name}.algorithm")
    data = workdir.began_with
    if data is None:
        raise UserError(
            f"{workdir.path} has no inventory.json, with the classes and the shape of "
            "the images: an older version of ssl_jax trained it; train it again with "
            "this one."
        )
    # Of how many images there were, only what is saved is left.
    num_classes = len(data.class_names)
    each = (1,) * num_classes
    sizes = dict(num_labeled=1, labeled_K=each, granted_K=each, num_unlabeled=1)
    algorithm = phases.build_algorithm(run, section, num_classes=num_classes, **sizes)
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        like = _like(algorithm, data.shape, mesh)
        state = handover.as_saved(folder, {"state": like})[1]["state"]
    asked = {what: of for what, of in _ASKED.items() if can(algorithm, what)}
    if not data.class_names:
        asked.pop("predict", None)
    return Classifier(
        workdir=workdir.path,
        phase=section.name,
        method=section.algorithm,
        class_names=data.class_names,
        shape=data.shape,
        reading=Reading(run.data.white, run.data.max_pixels),
        algorithm=algorithm,
        state=state,
        said={
            what: in_few_sizes(restored.compiled(algorithm, state, mesh, of))
            for what, of in asked.items()
        },
    )


def _section(run: Run, workdir: Workdir, phase: str) -> Trains:
    """The one that is asked."""
    of_images = {
        name: section
        for name, section in run.trained.items()
        if section.method.draws_from != "graph"
    }
    if not of_images:
        raise UserError(
            f"the run in {workdir.path} knows no images: "
            f"{' and '.join(s.algorithm for s in run.trained.values())} learned from a "
            "graph, and says something of its nodes alone."
        )
    if phase and phase not in of_images:
        raise UserError(
            f"phase={phase!r}: of the run in {workdir.path} there are "
            f"{', '.join(of_images)}."
        )
    if phase:
        return of_images[phase]
    return restored.describing(run)


def _like(algorithm: Algorithm, shape: tuple[int, int, int], mesh: Mesh) -> PyTree:
    """The structure of the state that the algorithm has saved, of no image's data, and
    without what only the optimizer needs."""
    rows = EVAL_BATCH + -EVAL_BATCH % mesh.size
    batch = {
        "image": jax.ShapeDtypeStruct((rows, *shape), np.uint8),
        "label": jax.ShapeDtypeStruct((rows,), np.int32),
        "mask": jax.ShapeDtypeStruct((rows,), np.bool_),
    }
    state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
    replicated = NamedSharding(mesh, P())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
        state.replace(opt_state=()),
    )


def in_few_sizes(of_all: Callable[..., np.ndarray]) -> Callable:
    """`of_all` of images_BHWC, so that not every number of images is compiled for: as
    many as the next power of two, up to an evaluation's batch."""

    def said(images_BHWC):
        B = len(images_BHWC)
        size = min(1 << (B - 1).bit_length(), EVAL_BATCH)
        rows = np.arange(B + -B % size) % B
        return of_all(images_BHWC, rows)[:B]

    return said

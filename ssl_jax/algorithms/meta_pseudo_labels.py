"""Meta Pseudo Labels: a teacher learns by what its pseudo-labels do to its student.

Pham et al., "Meta Pseudo Labels", arXiv:2003.10580: algorithm 1 of its appendix, whose
symbols these are, with UDA as the teacher's own loss. The student learns pseudo-labels
alone; that labeled images tune it afterwards is a phase that starts from it
(docs/methods.md).

"The code" is the authors' own (google-research/google-research, meta_pseudo_labels/ at
5d5d544; training_utils.py at ccc94ce). Constants are its README's for CIFAR-10 with
4,000 labels, which its author calls newer than the paper's (issue 540 there).

Departures: from the paper, as the code, h is what the paper's product is to first
order, by how much a step of the student's (momentum and decay included) lowers its loss
of labeled images; and the running mean of h is taken off. From the code: its
pseudo-labels are all that the teacher says, softly, at which the cross-entropy that h
weighs has no slope (issue 534), so that it is UDA and a student of it. Here one label
is drawn for each image, as in the paper: the student's loss is the same in the mean,
and the teacher's has a slope. h has the paper's sign, the code's is the opposite.
Before and after its step the student sees labeled images alone, so that BatchNorm is
the same; in the code, before it, the others with them. The mean of h begins at 0, there
at random. UDA's mask is by predictions that are not yet sharpened. UDA's weight does
not rise, nor does the student wait (there over the first 5,000 and 3,000 of 300,000
steps), and dropout is `model.dropout` (0.2). From kekmodel/MPL-pytorch (main.py at
d21326a): there pseudo-labels are the surest class, of the weak view for the student's
loss and of the strong one for the teacher's, the sign is the code's, and no mean is
taken off.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.algorithms.uda import UDA
from ssl_jax.core import Batch, Metrics, PyTree, TrainState
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Positive, Rate, Share, Weight

DRAWN = np.uint32(2**31 + 4)  # behind what `core.model_rngs` has of a step's key


@dataclass(frozen=True, kw_only=True)
class MetaPseudoLabels(UDA):
    """The state is the student's, which is judged, by its EMA; what the teacher has of
    its own is extra["teacher"]. Of the metrics, loss, labeled_loss and accuracy are the
    student's; how good pseudo-labels are is said of UDA's, the teacher's of weak views.
    """

    learns_augmentation: ClassVar[bool] = False
    threshold: Share = 0.6  # of UDA: images less sure than this are masked
    temperature: Positive = 0.7  # of UDA: of the sharpened target
    unlabeled_weight: Weight = 8.0  # of UDA's unlabeled loss
    label_smoothing: Rate = 0.15  # of all labels that are learned, but not in h
    # of the mean of h that is taken off it; 1: none is; 0: h itself is, and has no say
    mean_decay: Share = 0.99

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """Two networks, which begin apart but for what is handed over."""
        key_student, key_teacher = jax.random.split(key)
        student, teacher = (
            UDA.init(self, key, batch, initial) for key in (key_student, key_teacher)
        )
        extra = {"teacher": _own(teacher), "mean_h": jnp.float32(0)}
        return student.replace(extra={**student.extra, **extra})

    def labeled_loss(self, logits_BK, label_B) -> jax.Array:
        label_BK = jax.nn.one_hot(label_B, logits_BK.shape[-1])
        target_BK = optax.smooth_labels(label_BK, self.label_smoothing)
        return soft_cross_entropy_per_example(logits_BK, target_BK)

    def taught(
        self, student: TrainState, u_UHWC, label_U, key
    ) -> tuple[TrainState, Metrics]:
        """The student after a step on pseudo-labels."""

        def loss(params):
            logits_UK, model_state = core.forward(
                self.model,
                params,
                student.model_state,
                u_UHWC,
                train=True,
                rngs=core.model_rngs(key, 2),
            )
            return self.labeled_loss(logits_UK, label_U).mean(), (model_state, {})

        return core.gradient_step(loss, self.tx, student)

    def of_labeled(self, student: TrainState, x_BHWC, key) -> jax.Array:
        """The student's logits_BK of the labeled images, in training mode, which move
        no moments; the same units drop each time."""
        logits_BK, _ = core.forward(
            self.model,
            student.params,
            student.model_state,
            x_BHWC,
            train=True,
            rngs=core.model_rngs(key, 3),
        )
        return logits_BK

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        """The teacher's, of its `params`, on the way to which the student learns: that
        moves by labels, which have no gradient."""
        model_state = state.extra["teacher"]["model_state"]
        logits, model_state = self.logits(params, model_state, views, key)
        uda_loss, metrics, _, _ = self.compared(state, batch, *logits)

        # The student's step, on labels drawn by the teacher's probabilities.
        (x_BHWC, _, u_UHWC), (_, _, u_UK) = views, logits
        label_U = jax.random.categorical(
            jax.random.fold_in(key, DRAWN),
            jax.lax.stop_gradient(u_UK).astype(jnp.float32),
        )
        student, told = self.taught(state, u_UHWC, label_U, key)

        # What it was good for, and its part in the teacher's loss.
        before_BK, after_BK = (
            self.of_labeled(one, x_BHWC, key) for one in (state, student)
        )
        before, after = (
            cross_entropy_per_example(logits_BK, batch["label"]).mean()
            for logits_BK in (before_BK, after_BK)
        )
        h = before - after
        mean_h = core.ema(state.extra["mean_h"], h, self.mean_decay)
        drawn_loss = cross_entropy_per_example(u_UK, label_U).mean()
        loss = uda_loss + (h - mean_h) * drawn_loss
        metrics |= {
            "teacher_loss": core.mean(loss),
            "teacher_labeled_loss": metrics["labeled_loss"],
            "teacher_accuracy": metrics["accuracy"],
            "loss": told["loss"],
            "labeled_loss": core.mean(before),
            "labeled_loss_after": core.mean(after),
            "accuracy": core.mean(before_BK.argmax(-1) == batch["label"]),
        }
        return loss, (model_state, metrics, student, mean_h)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_strong = jax.random.split(key, 3)
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_weak, batch["unlabeled_image"]),
            self.views.strong(key_strong, batch["unlabeled_image"]),
        )
        teacher, metrics, student, mean_h = core.gradient_step(
            lambda params: self.loss(params, state, views, batch, key),
            self.tx,
            state.replace(**state.extra["teacher"]),
        )
        extra = {**state.extra, "teacher": _own(teacher), "mean_h": mean_h}
        return ema_teacher.update(self, student.replace(extra=extra)), metrics


def _own(state: TrainState) -> dict[str, PyTree]:
    """What a network and its optimizer have, of a state."""
    return {
        name: getattr(state, name) for name in ("params", "model_state", "opt_state")
    }

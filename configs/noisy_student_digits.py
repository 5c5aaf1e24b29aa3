"""Noisy student on scikit-learn's 1,797 digits with 40 labels: a teacher and two
rounds, each of 1,000 steps with fixmatch_digits' network and optimizer."""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run(
        "noisy_student_digits",
        teacher=_phase(""),
        student1=_phase("teacher"),
        student2=_phase("student1"),
    )
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config


def _phase(labels_from):
    phase = base.phase(base.algorithm("noisy_student.NoisyStudent", ema_decay=0.99))
    if labels_from:
        # 1,257 images have no label: four of five, were they even over the classes.
        phase.update(labels_from=labels_from, confidence=0.5, per_class=100)
    phase.augment.update(flip=False, shift=1)
    phase.optimizer.learning_rate = 0.1
    phase.unlabeled_ratio = 0
    return phase

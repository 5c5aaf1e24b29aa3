"""Noisy student on CIFAR-10: a teacher and two rounds, of 4,000 labels; 40 and 250 by
--config.data.num_labels.

The paper (arXiv:1911.04252) is about ImageNet and 300 million images more. The network,
optimizer and noise here are FixMatch's, so that the two can be compared: a step sees
512 images, as FixMatch's 64 + 448, and the three phases take 3/8 of its steps.
"""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run(
        "noisy_student_cifar10",
        teacher=_phase(""),
        student1=_phase("teacher"),
        student2=_phase("student1"),
    )
    config.data.update(name="cifar10", num_labels=4_000)
    config.model = base.model("wide_resnet")
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _phase(labels_from):
    phase = base.phase(base.algorithm("noisy_student.NoisyStudent"))
    if labels_from:
        # Of 46,000 to 49,960 images without a label: the surest nine of ten or so.
        phase.update(labels_from=labels_from, confidence=0.5, per_class=4_000)
    phase.update(
        steps=2**17,
        batch_size=512,
        unlabeled_ratio=0,
        log_every=256,
        eval_every=1024,
        checkpoint_every=1024,
    )
    return phase

"""ReMixMatch on CIFAR-10 (arXiv:1911.09785) in FixMatch's settings, 64 + 64 images.

SGD and cosine as FixMatch and TorchSSL, where the paper has Adam at a constant 0.002.
The paper's strong view is CTAugment: `:cta`. Here is what the code sets for 40 labels
(runs/ssl/cifar10.sh); for 250 and 4,000 it is `MORE_LABELS`, which
experiments/cifar10_labels.py lays over it.
"""

from configs import base, fixmatch_cifar10

MORE_LABELS = {
    "train.algorithm.num_strong": 8,
    "train.algorithm.rotation_weight": 0.5,
    "train.algorithm.rampup_steps": 16_000,
}


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    config.train.unlabeled_ratio = 1
    return base.instead(
        config,
        "remixmatch.ReMixMatch",
        num_strong=1,
        rotation_weight=2.0,
        rampup_steps=131_072,  # 8,192 x 1,024 images of 64 a step
    )

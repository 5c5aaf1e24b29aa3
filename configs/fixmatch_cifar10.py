"""FixMatch on CIFAR-10 (arXiv:2001.07685, table 2): 40, 250 or 4,000 labels.

Published error with RandAugment, 5 folds: 13.81 +- 3.37, 5.07 +- 0.65, 4.26 +- 0.05;
with CTAugment (`:cta`) 11.39 +- 3.35, 5.07 +- 0.33, 4.31 +- 0.15. `:small` is sized for
an hour on two CPU cores. The other methods' CIFAR-10 files begin from this one.
"""

from configs import base

WORDS = ("google", "torchssl", "cta", "small")
WEAK_WORDS = ("google", "torchssl", "small")  # of methods without strong views


def get_config(arg: str = ""):
    words = base.words(arg, *WORDS)
    config = paper(words)
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def paper(words: set[str]):
    """All but "debug", which comes last."""
    config = base.fixmatch_paper(
        "fixmatch_cifar10",
        "cifar10",
        words,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )
    config.data.num_labels = 40
    if "small" in words:
        base.small_cifar10(config)
    return config

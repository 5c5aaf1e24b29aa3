"""FixMatch on CIFAR-10 (arXiv:2001.07685, table 2): 40, 250 or 4,000 labels.

Published error with RandAugment, 5 folds: 13.81 +- 3.37, 5.07 +- 0.65, 4.26 +- 0.05.
"""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg, "google", "torchssl")
    config = base.fixmatch_paper(
        "fixmatch_cifar10",
        "cifar10",
        words,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )
    config.data.num_labels = 40
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config

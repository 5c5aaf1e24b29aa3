"""Pseudo-Label on CIFAR-10, 64 labeled and 64 unlabeled images a step.

Published error (USB, best checkpoint, 3 seeds): 76.29, 48.28, 14.90.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    base.words(arg, *fixmatch_cifar10.WEAK_WORDS)
    config = fixmatch_cifar10.get_config(arg)
    config.train.unlabeled_ratio = 1
    return base.instead(config, "pseudo_label.PseudoLabel")

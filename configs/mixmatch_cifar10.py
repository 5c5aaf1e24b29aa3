"""MixMatch on CIFAR-10 (arXiv:1905.02249) in FixMatch's settings, 64 + 64 images.

SGD and cosine as FixMatch's code (mixmatch.py there), where the paper has Adam at a
constant 0.002.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    base.words(arg, *fixmatch_cifar10.WEAK_WORDS)
    config = fixmatch_cifar10.get_config(arg)
    config.train.unlabeled_ratio = 1
    return base.instead(config, "mixmatch.MixMatch")

"""AdaMatch on CIFAR-10 (arXiv:2106.04732) in FixMatch's settings.

Published error (USB, best checkpoint, 3 seeds): 5.05, 5.01, 4.29.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    return base.instead(config, "adamatch.AdaMatch")

"""SoftMatch on CIFAR-10 (arXiv:2301.10921) in FixMatch's settings.

Published error (USB, best checkpoint, 3 seeds): 5.06, 4.84, 4.27.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    return base.instead(config, "softmatch.SoftMatch")

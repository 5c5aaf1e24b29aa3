"""FreeMatch on CIFAR-10 (arXiv:2205.07246) in FixMatch's settings.

Published error (USB, best checkpoint, 3 seeds): 4.97, 4.85, 4.14.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    return base.instead(config, "freematch.FreeMatch")

"""UDA on CIFAR-10 (arXiv:1904.12848) in FixMatch's settings.

Published error (USB, best checkpoint, 3 seeds): 8.01, 5.12, 4.32.
"""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    return base.instead(config, "uda.UDA")

"""The 100 labels of fixmatch_mnist alone: the floor under it."""

from configs import base, fixmatch_mnist


def get_config(arg: str = ""):
    return base.supervised(fixmatch_mnist.get_config(arg))

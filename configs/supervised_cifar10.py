"""The labels of fixmatch_cifar10 alone; `--config.data.num_labels=0` takes them all."""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    base.words(arg, *fixmatch_cifar10.WEAK_WORDS)
    return base.supervised(fixmatch_cifar10.get_config(arg))

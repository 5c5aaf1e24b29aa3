"""Mean Teacher on CIFAR-10 (arXiv:1703.01780), 64 labeled and 64 unlabeled a step."""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    base.words(arg, *fixmatch_cifar10.WEAK_WORDS)
    config = fixmatch_cifar10.get_config(arg)
    config.train.unlabeled_ratio = 1
    return base.instead(config, "mean_teacher.MeanTeacher")

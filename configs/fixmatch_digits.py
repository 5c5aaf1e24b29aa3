"""FixMatch on scikit-learn's 1,797 digits with 40 labels: the quickstart."""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run("fixmatch_digits")
    config.train.augment.update(flip=False, shift=1)
    config.train.optimizer.learning_rate = 0.1  # 0.03 does not get there in 1,000 steps
    config.train.algorithm.update(ema_decay=0.99, weak_gradient=False)
    config.train.unlabeled_ratio = 4  # 256 of 1,297 a step
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config

"""FixMatch on scikit-learn's 1,797 digits with 40 labels: the quickstart."""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run("fixmatch_digits")
    config.train.augment.update(flip=False, shift=1)
    config.train.algorithm.ema_decay = 0.99  # 1,000 steps: 0.999 would lag behind
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config

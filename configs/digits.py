"""scikit-learn's 1,797 digits with 40 labels: the quickstart, FixMatch's without a
method after the colon; under a minute on a CPU."""

from configs import base, methods

METHODS = {
    **methods.short(1000),
    "freematch": {
        "train.algorithm.threshold_decay": 0.99,
        "train.algorithm.fairness_weight": 0.01,
    },
    # Each round 1,000 steps as well. 1,257 images have no label: four of five, were
    # they even over the classes.
    "noisy_student": {"train.per_class": 100},
    # Which makes a higher floor than the weak view.
    "supervised": {"train.algorithm.strong": True},
    "vat": {"train.algorithm.epsilon": 0.9},  # as CIFAR-10's 6 a pixel
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg)
    config = base.run("fixmatch_digits")
    config.train.augment.update(flip=False, shift=1)
    config.train.optimizer.learning_rate = 0.1  # 0.03 does not get there in 1,000 steps
    config.train.algorithm.update(ema_decay=0.99, weak_gradient=False)
    config.train.unlabeled_ratio = 4  # 256 of 1,297 a step
    config = methods.instead(config, method, METHODS)
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config

"""FlexMatch on CIFAR-10 (arXiv:2110.08263, table 1) in FixMatch's settings.

Published error (median of 20, 3 seeds): 5.19, 5.33, 4.47 with 40, 250, 4,000 labels.
`:tutorial` has the flags of the tutorial that the project grew from.
"""

from configs import base, fixmatch_cifar10
from ssl_jax.errors import UserError


def get_config(arg: str = ""):
    words = base.words(arg, *fixmatch_cifar10.WORDS, "tutorial")
    if "tutorial" in words and (others := words - {"tutorial", "debug"}):
        raise UserError(
            "tutorial excludes every word after the colon but debug: leave out "
            f"{', '.join(sorted(others))}."
        )
    config = fixmatch_cifar10.paper(words)
    base.instead(config, "flexmatch.FlexMatch")
    if "tutorial" in words:
        _tutorial(config)
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _tutorial(config):
    config.name = "flexmatch_cifar10_tutorial"
    # The labeled images are repeated until they make a full epoch: here a batch is
    # drawn epoch after epoch without a gap, however few they are.
    config.data.num_labels = 4000
    config.train.algorithm.update(
        threshold=0.95,  # tau, which a class that is learned best has to reach
        unlabeled_weight=1.0,  # lambda_u, of the unlabeled loss
        ema_decay=0.999,  # of the weights that are judged
    )
    config.train.augment.update(
        strong="ctaugment",
        strength=0.5,  # half of each operation's published range
    )
    config.train.optimizer.update(
        name="sgd",
        learning_rate=0.03,
        warmup_steps=0,  # none: the highest rate at once
        weight_decay=5e-4,  # L2, on kernels
        nesterov=True,  # momentum looks one step ahead
    )
    config.train.update(
        batch_size=64,  # labeled images a step
        unlabeled_ratio=7,  # mu: 448 unlabeled ones
    )

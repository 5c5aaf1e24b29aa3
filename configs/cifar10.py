"""CIFAR-10 with 40, 250 or 4,000 labels: WRN-28-2, 2^20 steps (arXiv:2001.07685).

Published error of FixMatch (table 2, 5 folds): 13.81 +- 3.37, 5.07 +- 0.65,
4.26 +- 0.05; with CTAugment (`:cta`) 11.39 +- 3.35, 5.07 +- 0.33, 4.31 +- 0.15. The
other methods have its settings, but for METHODS. Published error of FlexMatch
(arXiv:2110.08263, table 1, median of 20, 3 seeds): 5.19, 5.33, 4.47; and from USB (best
checkpoint, 3 seeds), whose settings are `:torchssl`'s:

    AdaMatch       5.05   5.01   4.29
    FreeMatch      4.97   4.85   4.14
    Pseudo-Label  76.29  48.28  14.90
    SoftMatch      5.06   4.84   4.27
    UDA            8.01   5.12   4.32

and of Meta Pseudo Labels, tuned on the labels afterwards (arXiv:2003.10580),
with 4,000: 3.89 +- 0.07.

`:lt` has classes that are rarer, in USB's settings for those. `:small` is sized for an
hour on two CPU cores. `:flexmatch,tutorial` has the flags of
the tutorial that the project grew from. `:supervised` has the labels alone;
`--config.data.num_labels=0` takes them all.
"""

from configs import base, methods
from ssl_jax.errors import UserError

METHODS = {
    # arXiv:1911.04252 is about ImageNet and 300 million images more. The network,
    # optimizer and noise here are FixMatch's, so that the two can be compared. Of the
    # 46,000 images without a label, the surest nine of ten or so.
    "noisy_student": {"data.num_labels": 4_000, "train.per_class": 4_000},
    # What the code sets for 40 labels (runs/ssl/cifar10.sh); for 250 and 4,000 it is
    # MORE_LABELS, which experiments lay over it. The paper's strong view is `:cta`.
    "remixmatch": {
        "train.algorithm.num_strong": 1,
        "train.algorithm.rotation_weight": 2.0,
        "train.algorithm.rampup_steps": 131_072,  # 8,192 x 1,024 images of 64 a step
    },
}
MORE_LABELS = {  # ReMixMatch's
    "train.algorithm.num_strong": 8,
    "train.algorithm.rotation_weight": 0.5,
    "train.algorithm.rampup_steps": 16_384,
}


def get_config(arg: str = ""):
    method, words = methods.chosen(
        arg, "google", "torchssl", "cta", "lt", "small", "tutorial"
    )
    if "tutorial" in words:
        _check_tutorial(method, words)
    config = methods.fixmatch_paper(
        "cifar10",
        "cifar10",
        words,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )
    config.data.num_labels = 40
    if "lt" in words:
        _long_tailed(config)
    if "small" in words:
        _small(config)
    says = [methods.PAPERS, METHODS]
    if "lt" in words:  # 3,720 labels
        says.append({"remixmatch": MORE_LABELS})
    if "small" in words:
        says.append(methods.early(config.train.steps))
    config = methods.instead(config, method, *says)
    if "tutorial" in words:
        _tutorial(config)
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _long_tailed(config):
    """CIFAR-10-LT, 1,500 and 3,000 images of the first class and a hundredth of the
    last, in USB's settings (config/classic_cv_imb/ at 1ef4cbe)."""
    config.name = f"{config.name}_lt"
    config.data.update(
        num_labels=15_000,
        num_unlabeled=30_000,
        imbalance="exponential",
        gamma_labeled=100.0,
        gamma_unlabeled=100.0,
        labeled_in_unlabeled=False,
    )
    config.train.update(steps=2**18, unlabeled_ratio=2)


def _small(config):
    """16,000 steps of a small network, which may only be compared among themselves."""
    config.name = f"{config.name}_small"
    config.model = base.model("convnet", filters=(32, 64, 128), stem_stride=2)
    config.train.algorithm.update(weak_gradient=False, ema_warmup=True)
    config.train.update(
        steps=16_000,
        batch_size=32,
        log_every=100,
        eval_every=1000,
        checkpoint_every=500,
    )


def _check_tutorial(method, words):
    if method != "flexmatch":
        raise UserError(f"tutorial is FlexMatch's, not {method}'s: flexmatch,tutorial.")
    if others := words - {"tutorial", "debug"}:
        raise UserError(
            "tutorial excludes every word after the colon but flexmatch and debug: "
            f"leave out {', '.join(sorted(others))}."
        )


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

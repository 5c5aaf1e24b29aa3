"""A trainer's tutorial on CIFAR-10: 5,000 labels, then 20,000 images without any.

Its index lists, its MobileNet (Keras's, from random weights) and its input in [-1, 1].
A supervised phase until the validation loss is stable, then a semi-supervised one on
the same network, encoder and head, until it is stable again; in both the rate warms up
(`warmup_steps`) and BatchNorm's moments do (`model.bn_warmup`). Of the 5,000 labels 500
validate: they alone say when a phase ends, and settings are chosen by them. Published:
55.89%, and 43.66% of the baseline.

`:baseline` is that one: all 5,000 labels, Adam, batches of 64, 30 epochs, mirrored
images. `:supervised` has no unlabeled images, and beside that the same regularisation,
rules and steps; its second phase sees as many labeled images a step as take as long as
the labeled and unlabeled ones of the other. `:64px` brings images to 64 pixels a side
before they enter the network, which halves them five times: four times the cost a step.
Sized for 90 minutes of two CPU cores at 32 pixels.
"""

from configs import base
from ssl_jax.errors import UserError

WORDS = ("baseline", "supervised", "64px")
# Of a step without unlabeled images that takes as long as one of 64 + 2 x 64: these are
# 192 with a gradient and 128 without, which take a third.
AS_LONG = 236


def get_config(arg: str = ""):
    words = base.words(arg, *WORDS)
    if {"baseline", "supervised"} <= words:
        raise UserError("baseline and supervised exclude each other after the colon.")
    config = _baseline() if "baseline" in words else _two_phases("supervised" in words)
    config.data.update(
        name="cifar10",
        split="two_phase",
        num_labels=5_000,
        num_unlabeled=20_000,
        labeled_in_unlabeled=False,
    )
    config.name = "_".join([config.name, *(word for word in WORDS if word in words)])
    if "64px" in words:
        for name in config.phases:
            config[name].augment.scale_to = 64
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _baseline():
    train = base.phase(base.algorithm("supervised.Supervised", ema_decay=0.0))
    train.augment.shift = 0
    train.optimizer.update(
        name="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0
    )
    epoch = -(-5_000 // 64)
    train.update(unlabeled_ratio=0, steps=30 * epoch)
    train.update(eval_every=epoch, checkpoint_every=epoch, log_every=epoch)
    config = base.run("two_phase_cifar10", train=train)
    config.model = base.model("mobilenet", bn_warmup=False)  # as Keras has it
    return config


def _two_phases(supervised):
    first = _phase(base.algorithm("supervised.Supervised", strong=True))
    first.update(steps=12_000, loss_patience=6, loss_gain=0.01)
    first.optimizer.schedule = "constant"  # it ends by the rule, not by the schedule
    if supervised:
        second = _phase(base.algorithm("supervised.Supervised", strong=True))
        second.batch_size = AS_LONG
    else:
        # Half of what a network of 50 to 60% says of an image is wrong, and it is sure
        # of little: SoftMatch weighs by how sure it is, where others cut off.
        second = _phase(
            base.algorithm(
                "softmatch.SoftMatch", moments_decay=0.99, weak_gradient=False
            )
        )
        second.unlabeled_ratio = 2
    second.update(start_from="supervised", keep=("encoder", "head"))
    second.update(steps=8_000, loss_patience=8)
    config = base.run("two_phase_cifar10", supervised=first, semi_supervised=second)
    config.data.num_validation = 500  # of the 5,000
    config.model = base.model("mobilenet")
    return config


def _phase(algorithm):
    """Of the two: what both share."""
    phase = base.phase(algorithm)
    phase.optimizer.update(
        name="adam",
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=500,
        weight_decay=1e-4,
    )
    phase.update(batch_size=64, unlabeled_ratio=0, eval_every=250)
    phase.update(log_every=250, checkpoint_every=250)
    return phase

"""The autoencoder tutorial on MNIST: 784-32-784 on the first 10,000 images, then its
encoder as a classifier of the first 1,000; seconds on a CPU.

As the tutorial has it, pretraining hurts: in Keras and here the classifier is better
without it. 32 features that paint a digit are not those that name it, and 20 epochs at
this rate do not mend them.

":denoising" is an autoencoder that helps: a convolutional one that sees its input moved
and half of it blanked, and paints the whole image in its place.
The gain is the invariance to shifts that it learns from unlabeled images: without the
moves there is none, and a classifier that trains on shifted labeled images is better
(96%) and gains nothing from pretraining (one seed each). At the learning rate that is
best from scratch, 1e-2, the classifier without pretraining is still below.
experiments/tables/autoencoder_mnist.py measures all but the two with one seed.
"""

from configs import base

PLAIN = dict(weak="none", flip=False, mean=(0.0,), std=(255.0,))  # pixels in [0, 1]


def get_config(arg: str = ""):
    words = base.words(arg, "denoising")
    config = base.run(
        "autoencoder_mnist",
        supervised=_classifier("scratch"),  # what the pretraining is worth
        pretrain=base.phase(base.algorithm("autoencoder.Autoencoder")),
        finetune=_classifier("pretrain"),
    )
    config.data.update(
        name="mnist", split="first", num_labels=1_000, num_unlabeled=10_000
    )
    config.model = base.model("mlp", features=(32,))
    config.pretrain.augment.update(PLAIN)
    config.pretrain.optimizer.update(
        name="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0
    )
    # Keras takes 40 steps an epoch, the last of 16 images; the feed leaves that
    # incomplete batch out, and as many steps are 51 epochs.
    config.pretrain.update(
        steps=50 * 40,
        batch_size=256,
        steps_per_call=40,
        log_every=40,
        eval_every=2_000,
        checkpoint_every=2_000,
    )
    if "denoising" in words:
        _denoise(config)
    return base.debug(config, 28, 28, 1, 10) if "debug" in words else config


def _classifier(start_from):
    """20 epochs on the labels, the whole network: 32 updates each, as in Keras."""
    phase = base.phase(base.algorithm("supervised.Supervised", ema_decay=0.0))
    phase.augment.update(PLAIN)
    phase.optimizer.update(
        name="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0
    )
    phase.update(
        start_from=start_from,
        steps=20 * 32,
        batch_size=32,
        unlabeled_ratio=0,
        steps_per_call=32,
        log_every=32,
        eval_every=160,
        checkpoint_every=640,
    )
    return phase


def _denoise(config):
    config.name = "autoencoder_mnist_denoising"
    config.model = base.model("lenet")
    config.pretrain.algorithm.update(decoder=(512,), noise=0.5, block=4)
    config.pretrain.augment.update(weak="shift", shift=4)
    config.pretrain.optimizer.update(learning_rate=2e-3, schedule="cosine")
    config.pretrain.update(
        steps=40 * 78,  # epochs
        batch_size=128,
        steps_per_call=1,
        log_every=78,
        eval_every=780,
        checkpoint_every=780,
    )
    for phase in (config.finetune, config.supervised):
        phase.optimizer.update(learning_rate=3e-3, schedule="cosine")
        phase.update(
            steps=800,  # 40 epochs
            batch_size=50,
            steps_per_call=1,
            log_every=40,
            eval_every=200,
            checkpoint_every=800,
        )

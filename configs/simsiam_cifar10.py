"""SimSiam on CIFAR-10 (arXiv:2011.10566, appendix D): ResNet-18, 800 epochs.

Published accuracy: 91.8 linear.
"""

from configs import base

EPOCH = 50_000 // 512  # steps


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run(
        "simsiam_cifar10",
        pretrain=base.phase(base.algorithm("simsiam.SimSiam")),
        probe=base.probe("pretrain", folds=1),  # of 50,000
    )
    config.data.update(name="cifar10", num_labels=0)
    config.model = base.model(
        "resnet", stem="cifar", zero_init_residual=True, bn_warmup=False
    )
    config.pretrain.augment.update(
        area=(0.2, 1.0),
        method="bilinear",
        saturation=0.4,
        blur=(0.0, 0.0),  # both views come from one distribution
        solarize=(0.0, 0.0),
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )
    config.pretrain.optimizer.update(
        learning_rate=0.03,
        per_batch=256,
        schedule="cosine",
        nesterov=False,
        weight_decay=5e-4,
        decay_on="all",
    )
    config.pretrain.update(
        steps=800 * EPOCH,
        batch_size=512,
        log_every=EPOCH,
        eval_every=10 * EPOCH,
        checkpoint_every=10 * EPOCH,
        knn=5,
    )
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config

"""BYOL on CIFAR-10: ResNet-18, 1,000 epochs, in solo-learn's settings.

Published accuracy: 92.58 linear (solo-learn); 91.73 linear and 89.45 5-NN in other
settings (arXiv:2007.06346). `:small` is sized for half an hour on two CPU cores: a
small convolutional network and 12 epochs. Another method in BYOL's place, with its
settings: `:simclr`, `:vicreg` and so on; `:simsiam` without `small` is
simsiam_cifar10.py.
"""

from configs import base, methods, simsiam_cifar10

EPOCH = 50_000 // 256  # steps


def get_config(arg: str = ""):
    method, words = methods.embedded(arg, "small")
    if method == "simsiam" and "small" not in words:
        return simsiam_cifar10.get_config(",".join(words))
    config = base.run(
        "byol_cifar10",
        pretrain=base.phase(base.algorithm("byol.BYOL", head_bias=True, tau_base=0.99)),
        probe=base.probe("pretrain", folds=1),  # of 50,000
    )
    config.data.update(name="cifar10", num_labels=0)
    config.model = base.model("resnet", stem="cifar", bn_warmup=False)
    config.pretrain.augment.update(
        blur=(0.0, 0.0),  # the images are too small for it
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )
    config.pretrain.optimizer.update(
        name="lars",
        learning_rate=1.0,
        per_batch=256,
        schedule="cosine",
        warmup_steps=10 * EPOCH,
        nesterov=False,
        weight_decay=1e-5,
        trust_coefficient=0.02,
        clip_lr=True,
    )
    config.pretrain.update(
        steps=1000 * EPOCH,
        batch_size=256,
        log_every=EPOCH,
        eval_every=10 * EPOCH,
        checkpoint_every=10 * EPOCH,
        knn=5,
    )
    if "small" in words:
        config.name = "byol_cifar10_small"
        config.model = base.model("convnet", filters=(32, 64, 128), stem_stride=2)
        config.pretrain.algorithm.update(hidden=512, projection=128)
        config.pretrain.augment.update(area=(0.2, 1.0), method="bilinear")
        config.pretrain.optimizer.update(
            name="adam",
            learning_rate=2e-3,
            per_batch=0,
            warmup_steps=EPOCH,
            clip_lr=False,
        )
        config.pretrain.update(
            steps=2400, log_every=60, eval_every=240, checkpoint_every=240
        )
        config.probe.folds = 5
    # 64 patches of 4x4 pixels, of which 16 are seen.
    vit, steps = dict(patch=4, pool="mean"), config.pretrain.steps
    its = dict(decoder=(192, 4, 3), area=(0.2, 1.0), **vit)
    says = [methods.masked(1.5e-4, steps=steps, **its)]
    if "small" in words:
        vit |= dict(width=128, depth=6, heads=4)
        masked = methods.masked(1e-3, steps=steps, decoder=(64, 1, 2), **vit)
        says = [methods.NARROW, masked]
    methods.instead_of_byol(config, method, *says)
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config

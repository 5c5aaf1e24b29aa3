"""BYOL on Imagenette as deepmind-research/byol offers it: ResNet-18, 128 px, 1,000
epochs; about 92.3% accuracy of the online probe, 4 hours on one V100. Another method in
BYOL's place: `:simclr` and so on."""

from configs import base, methods

EPOCH = 9_469 // 256  # steps


def get_config(arg: str = ""):
    method, words = methods.embedded(arg)
    config = base.run(
        "byol_imagenette",
        pretrain=base.phase(base.algorithm("byol.BYOL")),
        probe=base.probe("pretrain"),
    )
    config.data.update(name="imagenette/160px-v2", num_labels=0, image_size=160)
    config.model = base.model("resnet", stem="imagenet", bn_warmup=False)
    config.pretrain.augment.update(
        side=128,
        resize=160,  # its code adds 32 px whatever the side: 256 for 224, 160 for 128
        mean=(123.7, 116.3, 103.5),
        std=(58.4, 57.1, 57.4),
    )
    config.pretrain.optimizer.update(
        name="lars",
        learning_rate=2.0,
        per_batch=256,
        schedule="cosine",
        warmup_steps=10 * EPOCH,
        nesterov=False,
        weight_decay=1e-6,
    )
    config.pretrain.update(
        steps=1000 * EPOCH,
        batch_size=256,
        log_every=EPOCH,
        eval_every=10 * EPOCH,
        checkpoint_every=10 * EPOCH,
        knn=5,
    )
    # 64 patches of 16x16 pixels, of which 16 are seen.
    vit = dict(patch=16, pool="mean", area=(0.2, 1.0))
    masked = methods.masked(
        1.5e-4, steps=config.pretrain.steps, decoder=(192, 4, 3), **vit
    )
    methods.instead_of_byol(config, method, masked)
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config

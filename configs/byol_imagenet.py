"""BYOL on ImageNet: ResNet-50, 4,096 images a step, 1,000 epochs (arXiv:2006.07733).

Published accuracy of the linear probe: 74.3% (top-5: 91.6%); after 300 epochs, by
`:epochs300`, which has the settings of its code for that length, 72.5%. Images are
streamed as imagenet.py says. Another method in BYOL's place: `:simclr` and so on.
"""

from configs import base, methods

EPOCH = 1_281_167 // 4_096  # steps


def get_config(arg: str = ""):
    method, words = methods.embedded(arg, "epochs300")
    short = "epochs300" in words
    config = base.run(
        f"byol_imagenet{'_epochs300' * short}",
        pretrain=base.phase(
            base.algorithm("byol.BYOL", tau_base=0.99 if short else 0.996)
        ),
        probe=base.probe("pretrain"),
    )
    config.data.update(
        name="imagenet2012", num_labels=0, image_size=256, placement="stream"
    )
    config.model = base.model("resnet", depth=50, stem="imagenet", bn_warmup=False)
    config.pretrain.augment.update(
        side=224,
        resize=256,
        mean=(123.7, 116.3, 103.5),
        std=(58.4, 57.1, 57.4),
    )
    config.pretrain.optimizer.update(
        name="lars",
        learning_rate=0.3 if short else 0.2,
        per_batch=256,
        schedule="cosine",
        warmup_steps=10 * EPOCH,
        nesterov=False,
        weight_decay=1e-6 if short else 1.5e-6,
    )
    config.pretrain.update(
        steps=(300 if short else 1000) * EPOCH,
        batch_size=4_096,
        log_every=EPOCH // 4,
        eval_every=10 * EPOCH,
        checkpoint_every=EPOCH,
    )
    # The paper's, on its smallest network.
    vit = dict(size="base", patch=16, area=(0.2, 1.0))
    masked = methods.masked(
        1.5e-4, steps=config.pretrain.steps, decoder=(512, 8, 16), **vit
    )
    methods.instead_of_byol(config, method, masked)
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config

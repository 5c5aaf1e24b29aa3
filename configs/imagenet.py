"""ImageNet with 10% of its labels: ResNet-50 at 224 px (arXiv:2001.07685, section 4.3).

Published error of FixMatch: 28.54 +- 0.52 (top-5: 10.87 +- 0.28). The settings are
those of its code (google-research/fixmatch, 1894fec, imagenet/: `training.py`,
`fixmatch.py` and the TPU command of its README): 1,024 labeled and 5,120 unlabeled
images a step, the rate a tenth after each sixth of the steps. The other methods have
them too, but for METHODS, and but for FixMatch's threshold of 0.7 and weight of 10:
theirs are CIFAR-10's, also where their codes have others for ImageNet. `:byol` and
`:byol,epochs300` are byol_imagenet.py.

Images are streamed (docs/data.md): from TensorFlow Datasets, or from a folder by
`--config.data.name=folder --config.data.dir=...`, with `train` and `test` in it. Each
is brought to a square of `data.image_size` pixels, and views of 224 are cut from that.
Other departures from the code are in docs/methods.md.
"""

from configs import base, byol_imagenet, methods

METHODS = {
    # FixMatch's 6,144 images a step, in three phases over 3/8 of its steps. Of the
    # 1,153,000 images without a label, the surest nine of ten or so.
    "noisy_student": {
        "train.steps": 46_875,
        "train.batch_size": 6_144,
        "train.per_class": 1_000,
    },
    "vat": {"train.algorithm.epsilon": 42.0},  # as CIFAR-10's 6 a pixel
}


def get_config(arg: str = ""):
    if "byol" in (words := (arg or "").split(",")):
        return byol_imagenet.get_config(",".join(w for w in words if w != "byol"))
    method, words = methods.chosen(arg)
    config = base.run("fixmatch_imagenet")
    config.data.update(
        name="imagenet2012",
        num_labels=128_000,  # of 1,281,167; the code's splits have 128,116
        image_size=256,
        placement="stream",
    )
    config.model = base.model("resnet", depth=50, stem="imagenet", bn_warmup=False)
    config.train.algorithm.update(threshold=0.7, unlabeled_weight=10.0)
    config.train.algorithm.ema_warmup = False
    config.train.augment.update(weak="crop", side=224, resize=256, area=(0.08, 1.0))
    config.train.optimizer.update(
        learning_rate=0.4,  # 0.1 x 1,024 / 256
        schedule="sixths",  # 500 of 3,000 epochs of the labeled images
        warmup_steps=6_250,  # 50 epochs
        weight_decay=6e-4,  # Keras' l2(3e-4) is without the half
    )
    config.train.update(
        steps=375_000,  # 3,000 epochs of 125 steps
        batch_size=1_024,
        unlabeled_ratio=5,
        log_every=125,
        eval_every=1_000,
        checkpoint_every=1_000,
    )
    config = methods.instead(config, method, methods.PAPERS, METHODS)
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config

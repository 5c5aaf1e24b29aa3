"""MNIST with 100 labels, sized for 20 minutes on two CPU cores."""

from configs import base, methods

METHODS = {
    **methods.short(3000),
    # FixMatch's 32 + 7 x 32 images a step, and in three phases its 3,000 steps. 59,900
    # images have no label: the surest five of six or so.
    "noisy_student": {
        "train.steps": 1000,
        "train.batch_size": 256,
        "train.eval_every": 50,
        "train.checkpoint_every": 100,
        "train.per_class": 5_000,
    },
    "vat": {"train.algorithm.epsilon": 3.0},  # as CIFAR-10's 6 a pixel
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg)
    config = base.run("fixmatch_mnist")
    config.data.update(name="mnist", num_labels=100)
    config.model = base.model("convnet", filters=(32, 64, 128), stem_stride=2)
    config.train.augment.update(flip=False, shift=3)
    config.train.algorithm.update(ema_decay=0.99, weak_gradient=False)
    config.train.update(
        steps=3000,
        batch_size=32,
        eval_every=150,  # 20 in all, for the median
        checkpoint_every=300,
    )
    config = methods.instead(config, method, METHODS)
    return base.debug(config, 28, 28, 1, 10) if "debug" in words else config

"""FixMatch on MNIST with 100 labels, sized for 20 minutes on two CPU cores."""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
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
    return base.debug(config, 28, 28, 1, 10) if "debug" in words else config

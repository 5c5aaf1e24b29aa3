"""BYOL on scikit-learn's 1,797 digits, probed with 40 labels; minutes on a CPU.

Beside the probe the same encoder is trained on the same 40 labels alone.
"""

from configs import base, supervised_digits


def get_config(arg: str = ""):
    words = base.words(arg)
    config = base.run(
        "byol_digits",
        pretrain=base.phase(
            base.algorithm("byol.BYOL", hidden=256, projection=64, tau_base=0.99)
        ),
        probe=base.probe("pretrain", baselines=("random", "pixels")),
        supervised=supervised_digits.get_config().train,
    )
    config.pretrain.augment.update(
        area=(0.4, 1.0),
        method="bilinear",
        flip=False,  # a mirrored digit is none
        blur=(0.0, 0.0),
        solarize=(0.0, 0.0),
    )
    config.pretrain.optimizer.update(
        name="adam", learning_rate=1e-3, schedule="cosine", weight_decay=1e-6
    )
    config.pretrain.update(
        steps=2000, batch_size=256, eval_every=200, checkpoint_every=200, knn=1
    )
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config

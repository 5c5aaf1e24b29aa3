"""BYOL on scikit-learn's 1,797 digits, probed with 40 labels; minutes on a CPU.

Beside the probe the same encoder is trained on the same 40 labels alone. Another
method in BYOL's place, with its settings but for CROPS and `mae`: `:simclr`, `:vicreg`
and so on.
"""

from configs import base, digits, methods

# A small crop of a digit of 8x8 pixels has to have some of its strokes.
SMALL = {
    "pretrain.augment.small_side": 6,
    "pretrain.augment.small_area": (0.4, 0.7),
}
CROPS = {
    # At BYOL's rate, from the first step on, its targets become uniform and stay so:
    # after 225 steps 51.8% of 1-NN, and 83.2 at this one.
    "dino": {
        **SMALL,
        "pretrain.optimizer.learning_rate": 2e-3,
        "pretrain.optimizer.warmup_steps": 150,
    },
    "swav": SMALL,
}
# 16 patches of 2x2 pixels, of which 4 are seen.
MASKED = dict(patch=2, width=64, depth=4, heads=4, pool="mean")
STEPS = 1500


def get_config(arg: str = ""):
    method, words = methods.embedded(arg)
    config = base.run(
        "byol_digits",
        supervised=digits.get_config("supervised").train,
        pretrain=base.phase(
            base.algorithm(
                "byol.BYOL", hidden=256, projection=64, head_bias=True, tau_base=0.99
            )
        ),
        probe=base.probe("pretrain", baselines=("random", "pixels")),
    )
    # Crops alone cut the strokes of 8x8 digits off: the second view is RandAugment's.
    config.pretrain.augment.update(
        before=("none", "randaugment_google"),
        area=(0.7, 1.0),
        method="bilinear",
        flip=False,  # a mirrored digit is none
        jitter=0.0,
        blur=(0.0, 0.0),
        solarize=(0.0, 0.0),
    )
    config.pretrain.optimizer.update(
        name="adam", learning_rate=4e-3, schedule="cosine", weight_decay=1e-6
    )
    config.pretrain.update(
        steps=STEPS, batch_size=256, eval_every=150, checkpoint_every=150, knn=1
    )
    masked = methods.masked(2e-3, steps=STEPS, decoder=(32, 1, 2), **MASKED)
    methods.instead_of_byol(config, method, methods.NARROW, CROPS, masked)
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config

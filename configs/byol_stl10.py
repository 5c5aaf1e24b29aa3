"""BYOL on STL-10: pretrained on the 105,000 images, then probed and fine-tuned.

As is: ResNet-18 on 64 px crops, 2,000 epochs (arXiv:2007.06346, htdt/self-supervised;
published: 91.99 linear, 88.64 5-NN). `:paper96`: BYOL's own views and LARS at 96 px,
by its settings for 300 epochs. `:tutorial`: one epoch on the 100,000 unlabeled images
at 96 px, then fine-tuned whole and frozen, beside supervised training alone.

`--config.data.num_labels=500` (or 50) fine-tunes and probes on 10% (or 1%) of the
labels; pretraining uses none.

`:finetune` is fine-tuning alone, of what a run of this has learned:
`--config.train.start_from=W/pretrain` names another workdir W, and
`--config.train.algorithm.frozen=True` trains the head alone. `:scratch` is the same
from scratch: what fine-tuning has to beat.

Another method in BYOL's place, with any of these: `:simclr`, `:vicreg,paper96` and so
on.
"""

from configs import base, methods

EPOCH = 105_000 // 512  # steps
MEAN, STD = (112.2, 109.7, 99.5), (66.3, 65.3, 66.6)  # of the training images


def get_config(arg: str = ""):
    known = ("paper96", "tutorial", "finetune", "scratch")
    method, words = methods.embedded(arg, *known, alone=True)
    config = _pretrained(method, words)
    if words & {"finetune", "scratch"}:
        config = _on_labels("scratch" if "scratch" in words else "finetune", config)
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config


def _on_labels(word, learned):
    """Of what the run `learned` learns, or of its network from scratch."""
    start_from = f"runs/{learned.name}-seed0/pretrain"
    start_from = start_from if word == "finetune" else "scratch"
    name = f"{word}_{learned.name.removeprefix('byol_')}"
    config = base.run(name, train=finetune(start_from))
    config.data, config.model = learned.data, learned.model
    return config


def _pretrained(method, words):
    config = base.run(
        "byol_stl10",
        supervised=finetune("scratch"),
        pretrain=base.phase(
            base.algorithm(
                "byol.BYOL", hidden=1024, projection=128, head_bias=True, tau_base=0.99
            )
        ),
        probe=base.probe("pretrain"),
        finetune=finetune("pretrain"),
        frozen=finetune("pretrain", frozen=True),
    )
    config.data.update(name="stl10", num_labels=0)
    config.model = base.model("resnet", stem="stl10", bn_warmup=False)
    pretrain = config.pretrain
    pretrain.augment.update(
        side=64,
        resize=70,
        area=(0.2, 1.0),
        saturation=0.4,
        grey=0.1,
        blur=(0.0, 0.0),
        solarize=(0.0, 0.0),
        mean=MEAN,
        std=STD,
    )
    pretrain.optimizer.update(
        name="adam",
        learning_rate=2e-3,
        schedule="drops",
        warmup_steps=500,
        weight_decay=1e-6,
        decay_on="all",
    )
    pretrain.update(
        steps=2000 * EPOCH,
        batch_size=512,
        log_every=EPOCH,
        eval_every=10 * EPOCH,
        checkpoint_every=10 * EPOCH,
        knn=5,
    )
    config.phases = ("supervised", "pretrain", "probe", "finetune")
    if words & {"paper96", "tutorial"}:
        pretrain.augment = base.augmentation("two_crops", mean=MEAN, std=STD)
        for phase in (config.finetune, config.frozen, config.supervised):
            phase.augment.update(side=96, resize=96)
    if "paper96" in words:
        config.name = "byol_stl10_paper96"
        pretrain.algorithm.update(hidden=4096, projection=256, head_bias=False)
        pretrain.optimizer.update(
            name="lars",
            learning_rate=0.3,
            per_batch=256,
            schedule="cosine",
            warmup_steps=10 * EPOCH,
            nesterov=False,
            decay_on="kernels",
        )
        pretrain.steps = 300 * EPOCH
    if "tutorial" in words:
        config.name = "byol_stl10_tutorial"
        config.phases = ("supervised", "pretrain", "frozen", "finetune")
        config.data.labeled_in_unlabeled = False  # the 100,000 alone
        config.model = base.model("resnet", stem="imagenet")
        pretrain.algorithm.update(hidden=4096, projection=256)
        # The tutorial does not say: Adam as BYOL is often taught.
        pretrain.optimizer.update(
            learning_rate=3e-4,
            schedule="constant",
            warmup_steps=0,
            decay_on="kernels",
        )
        pretrain.update(
            steps=100_000 // 128,
            batch_size=128,
            log_every=11,  # 781 steps are 11 x 71
            eval_every=71,
            checkpoint_every=71,
        )
    # 64 patches of 8x8 pixels, or at 96 px 144.
    vit = dict(patch=8, pool="mean")
    masked = methods.masked(1.5e-4, steps=pretrain.steps, decoder=(192, 4, 3), **vit)
    methods.instead_of_byol(config, method, masked)
    return config


def finetune(start_from: str, **hparams):
    """A phase on the labeled images: BYOL's fine-tuning (arXiv:2006.07733, appendix
    C.2), but at one rate, in batches of 256 for its 1,024, with a weight decay, which
    its code has not, and in steps that let training from scratch converge as well."""
    phase = base.phase(
        base.algorithm("supervised.Supervised", ema_decay=0.0, **hparams)
    )
    phase.start_from = start_from
    phase.augment.update(
        weak="crop", side=64, resize=70, area=(0.2, 1.0), mean=MEAN, std=STD
    )
    phase.optimizer.update(learning_rate=0.05, schedule="cosine")
    if start_from == "scratch":
        phase.optimizer.learning_rate = 0.1
    phase.update(
        steps=4000,
        batch_size=256,
        unlabeled_ratio=0,
        eval_every=200,
        checkpoint_every=400,
    )
    return phase

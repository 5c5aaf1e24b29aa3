"""Any images with a few labels and no setting: --config.data.dir=a folder with a folder
for each class, or --config.data.name=a data set.

A supervised phase, then a semi-supervised one on the same network, each until the loss
on some of the labels is stable. Batch sizes, what validates, network and length follow
from the data (ssl_jax/train/adapted.py) and are said in the log; what the command line
sets stays as it is set. Sized for ten minutes of two CPU cores.

`:supervised` is what the labels alone give: the same regularisation and rules, and
steps of which each takes as long; a few labels allow fewer of them.
"""

from configs import base

# Of a step without unlabeled images that takes as long as one of 16 + 2 x 16, of which
# MixMatch sees two views: these are 80 with a gradient and 64 without, which take a
# third.
AS_LONG = 96
# That follow from the data; and the rate warms up.
OF_A_PHASE = ("steps", "batch_size", "unlabeled_ratio", "loss_patience")


def get_config(arg: str = ""):
    words = base.words(arg, "supervised")
    first = _phase(base.algorithm("supervised.Supervised", strong=True, ema_decay=0.99))
    first.update(steps=600, batch_size=16, loss_patience=3, loss_gain=0.02)
    first.optimizer.schedule = "constant"  # it ends by the rule, not by the schedule
    if "supervised" in words:
        second = first.copy_and_resolve_references()
        second.batch_size = AS_LONG
    else:
        # Mixed images keep the network from knowing a few labels by heart, after which
        # it is sure of all that it says: then SoftMatch gained nothing on photos of
        # CIFAR-10 with 10 labels a class, and AdaMatch lost. At the paper's weight, 75,
        # so short a run collapses.
        second = _phase(
            base.algorithm(
                "mixmatch.MixMatch",
                unlabeled_weight=10.0,
                rampup_steps=200,
                ema_decay=0.99,
            )
        )
        second.update(batch_size=16, unlabeled_ratio=2)
    second.optimizer.schedule = "cosine_7_16"
    second.update(start_from="supervised", keep=("encoder", "head"))
    second.update(steps=1_000, loss_patience=5, loss_gain=0.0)
    config = base.run("auto", supervised=first, semi_supervised=second)
    if "supervised" in words:
        config.name = "auto_supervised"
    config.data.update(name="folder", num_labels=0, image_size=32)
    config.model = base.model("convnet", filters=(32, 64, 128), stem_stride=2)
    if "debug" in words:
        base.debug(config, 8, 8, 3, 10)
    config.adapt = _adaptable(config)
    return config


def _phase(algorithm):
    phase = base.phase(algorithm)
    phase.update(unlabeled_ratio=0, log_every=50, eval_every=100)
    return phase


def _adaptable(config):
    """The fields that follow from the data, where they are as here."""
    fields = {
        "phases": config.phases,
        "model": config.model.to_dict(),
        "data": {"num_validation": config.data.num_validation},
    }
    for name in config.phases:
        fields[name] = {field: config[name][field] for field in OF_A_PHASE}
        fields[name]["augment"] = {"shift": config[name].augment.shift}
        fields[name]["optimizer"] = {"warmup_steps": 0}
    return fields

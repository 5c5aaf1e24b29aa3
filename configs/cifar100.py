"""CIFAR-100 with 400, 2,500 or 10,000 labels: WRN-28-8 (arXiv:2001.07685, table 2).

`:usb` is USB's protocol with 200 or 400 labels: a ViT-S of 2x2 patches, from weights
(--config.model.weights), 204,800 steps. Published error with 200, best checkpoint:
FixMatch 29.60, FreeMatch 21.40.
"""

from configs import base, cifar10, methods

METHODS = {
    # Its authors', configs/cifar100/, and USB's.
    "daso": {"train.algorithm.dist_temperature": 0.3},
    "mixmatch": {
        "train.algorithm.unlabeled_weight": 150.0,  # its code's, runs/table1.sh
    },
    # Of the 40,000 images without a label, the surest nine of ten or so.
    "noisy_student": {"data.num_labels": 10_000, "train.per_class": 350},
    # Its authors have none for it: those for as many labels a class.
    "remixmatch": cifar10.METHODS["remixmatch"],
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg, "google", "torchssl", "cta", "usb")
    config = methods.fixmatch_paper(
        "cifar100",
        "cifar100",
        words,
        mean=(129.3, 124.1, 112.4),
        std=(68.2, 65.4, 70.4),
    )
    config.data.num_labels = 400
    config.model.widen = 8
    config.train.optimizer.weight_decay = 1e-3
    says = [methods.PAPERS, METHODS]
    if "usb" in words:
        config.data.num_labels = 200
        network = {"size": "small", "patch": 2}
        methods.usb(config, network=network, learning_rate=5e-4, layer_decay=0.5)
        says = [methods.USB]
        if method == "flexmatch":  # whose file there has no warm-up
            config.train.optimizer.warmup_steps = 0
    config = methods.instead(config, method, *says)
    return base.debug(config, 32, 32, 3, 100) if "debug" in words else config

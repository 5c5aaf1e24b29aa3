"""FixMatch on CIFAR-100 (arXiv:2001.07685, table 2): 400, 2,500 or 10,000 labels."""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg, "google", "torchssl", "cta")
    config = base.fixmatch_paper(
        "fixmatch_cifar100",
        "cifar100",
        words,
        mean=(129.3, 124.1, 112.4),
        std=(68.2, 65.4, 70.4),
    )
    config.data.num_labels = 400
    config.model.widen = 8
    config.train.optimizer.weight_decay = 1e-3
    return base.debug(config, 32, 32, 3, 100) if "debug" in words else config

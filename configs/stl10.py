"""STL-10 with 1,000 labels in predefined folds (arXiv:2001.07685, table 2).

google: `--config.data.fold=0` to 4 are the paper's five runs; folds need the binary
files (docs/data.md). torchssl: labels drawn by seed; shifts by at most 4 px, where
google's are by 12; and a network that starts at half the side. Published error of
FixMatch with RandAugment: 7.98 +- 1.50; of FlexMatch (arXiv:2110.08263, table 1; median
of 20): 6.15. The network has 4 scales and 5.93 million parameters; the paper's 23.8
million is an error (google-research/fixmatch#34). The unlabeled pool is the 100,000
images without labels and the 5,000 with labels, once in either protocol. To be held
against byol_stl10's fine-tuning, supervised training has other settings:
byol_stl10.py:scratch.

`:usb` is USB's protocol with 40 or 100 labels: MAE's ViT-B, from weights
(--config.model.weights), 204,800 steps at 96 px. Published error with 40, best
checkpoint: FixMatch 16.15, FreeMatch 12.73.
"""

from configs import base, methods

METHODS = {
    # USB's, config/classic_cv/comatch/ and config/usb_cv/comatch/ at 1ef4cbe. CoMatch's
    # own code is of CIFAR and ImageNet.
    "comatch": {"train.algorithm.contrast_weight": 5.0},
    # Its authors', configs/stl10/, and USB's.
    "daso": {"train.algorithm.dist_temperature": 0.3},
    "mixmatch": {
        "train.algorithm.unlabeled_weight": 50.0,  # its code's, runs/table2.sh
    },
    # Half of 104,000 images: many of the 100,000 are of none of the classes.
    "noisy_student": {"train.per_class": 5_000},
    "remixmatch": {
        "train.algorithm.num_strong": 4,  # its code's, runs/ssl/stl10.sh
    },
    "vat": {"train.algorithm.epsilon": 18.0},  # as CIFAR-10's 6 a pixel
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg, "google", "torchssl", "cta", "usb")
    config = methods.fixmatch_paper(
        "stl10",
        "stl10",
        words,
        mean=(112.4, 109.1, 98.6),
        std=(68.4, 66.6, 68.5),
    )
    config.data.update(num_labels=1000, fold=-1 if "torchssl" in words else 0)
    config.model.scales = 4
    config.model.first_stride = 2 if "torchssl" in words else 1
    # Pixels of 96. An eighth of the side stood in TorchSSL for a day: 2264731, reverted
    # in 4d703ac.
    config.train.augment.shift = 4 if "torchssl" in words else 12
    says = [methods.PAPERS, METHODS]
    if "usb" in words:
        config.data.update(num_labels=40, fold=-1)
        network = {"size": "base", "patch": 16}
        methods.usb(config, network=network, learning_rate=1e-4, layer_decay=0.65)
        says = [{"comatch": METHODS["comatch"]}, methods.USB]
    config = methods.instead(config, method, *says)
    return base.debug(config, 96, 96, 3, 10) if "debug" in words else config

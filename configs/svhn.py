"""SVHN with 40, 250 or 1,000 labels: WRN-28-2 (arXiv:2001.07685, table 2).

"google" draws from the 73,257 training images (its svhn_noextra), "torchssl" from the
531,131 extra ones as well; both are the published settings of those codebases, and the
numbers do not compare. Nothing is mirrored in either: a mirrored 2 is no digit
(TorchSSL's code mirrors here too).
"""

from configs import base, methods

METHODS = {
    # Weights of the unlabeled loss from MixMatch's code, runs/table6.sh.
    "mixmatch": {
        "train.algorithm.unlabeled_weight": 250.0,
    },
    # Of the 72,257 images without a label, the surest five of six or so.
    "noisy_student": {"data.num_labels": 1_000, "train.per_class": 6_000},
    # Its code's for 40 labels, runs/ssl/svhn.sh; for more, num_strong is 8 and
    # rotation_weight 0.5.
    "remixmatch": {
        "train.algorithm.num_strong": 1,
        "train.algorithm.rotation_weight": 3.0,
    },
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg, "google", "torchssl", "cta")
    config = methods.fixmatch_paper(
        "svhn",
        "svhn_cropped",
        words,
        mean=(111.69, 113.22, 120.615),
        std=(44.65, 45.16, 44.47),
    )
    config.data.num_labels = 40
    config.data.extra = "torchssl" in words
    config.train.augment.flip = False
    says = [methods.PAPERS, METHODS]
    if config.data.extra:  # MixMatch's code, runs/table7.sh
        says.append({"mixmatch": {"train.algorithm.alpha": 0.25}})
    config = methods.instead(config, method, *says)
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config

"""FixMatch on SVHN (arXiv:2001.07685, table 2): 40, 250 or 1,000 labels.

"google" draws from the 73,257 training images (its svhn_noextra), "torchssl" from the
531,131 extra ones as well; both are the published settings of those codebases, and the
numbers do not compare. Nothing is mirrored in either: a mirrored 2 is no digit
(TorchSSL's code mirrors here too).
"""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg, "google", "torchssl", "cta")
    config = base.fixmatch_paper(
        "fixmatch_svhn",
        "svhn_cropped",
        words,
        mean=(111.69, 113.22, 120.615),
        std=(44.65, 45.16, 44.47),
    )
    config.data.num_labels = 40
    config.data.extra = "torchssl" in words
    config.train.augment.flip = False
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config

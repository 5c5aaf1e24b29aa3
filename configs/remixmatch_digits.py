"""ReMixMatch on the digits and 40 labels of fixmatch_digits."""

from configs import base, fixmatch_digits


def get_config(arg: str = ""):
    config = fixmatch_digits.get_config(arg)
    config.train.unlabeled_ratio = 1
    return base.instead(config, "remixmatch.ReMixMatch", rampup_steps=500)

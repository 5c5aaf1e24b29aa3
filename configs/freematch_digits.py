"""FreeMatch on the digits and 40 labels of fixmatch_digits."""

from configs import base, fixmatch_digits


def get_config(arg: str = ""):
    config = fixmatch_digits.get_config(arg)
    return base.instead(
        config, "freematch.FreeMatch", threshold_decay=0.99, fairness_weight=0.01
    )

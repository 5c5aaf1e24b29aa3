"""The 40 labels of fixmatch_digits alone: the floor under it.

Trained on the strong view, which makes a higher floor than the weak one.
"""

from configs import base, fixmatch_digits


def get_config(arg: str = ""):
    return base.supervised(fixmatch_digits.get_config(arg), strong=True)

"""Dash on CIFAR-10 (ICML 2021) in FixMatch's settings."""

from configs import base, fixmatch_cifar10


def get_config(arg: str = ""):
    config = fixmatch_cifar10.get_config(arg)
    return base.instead(config, "dash.Dash")

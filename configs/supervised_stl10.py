"""Supervised training from scratch on STL-10: what finetune_stl10 has to beat."""

from configs import base, byol_stl10, finetune_stl10


def get_config(arg: str = ""):
    words = base.words(arg)
    config = finetune_stl10.get_config()
    config.name = "supervised_stl10"
    config.train = byol_stl10.finetune("scratch")
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config

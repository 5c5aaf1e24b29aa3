"""Fine-tuning on STL-10 what a run of byol_stl10 has learned.

`--config.train.start_from=W/pretrain` names another workdir W;
`--config.train.algorithm.frozen=True` trains the head alone, and
`--config.data.num_labels=500` (or 50) has 10% (or 1%) of the labels.
"""

from configs import base, byol_stl10


def get_config(arg: str = ""):
    words = base.words(arg)
    pretrained = "runs/byol_stl10-seed0/pretrain"
    config = base.run("finetune_stl10", train=byol_stl10.finetune(pretrained))
    config.data.update(name="stl10", num_labels=0)
    config.model = base.model("resnet", stem="stl10")
    return base.debug(config, 24, 24, 3, 10) if "debug" in words else config

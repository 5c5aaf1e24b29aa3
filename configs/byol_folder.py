"""BYOL on a folder of images without a label: --config.data.dir=the folder.

Every image below it is taken, whatever folders they lie in; nothing is judged. Then
--mode=query says which to label first, and a word trains on the answers, from the
encoder of that run:

`:probe` trains a linear head on the frozen encoder, `:finetune` all of it, `:fixmatch`
all of it on the images without a label as well. All take the answers by
--config.data.labels and the run by --config.train.start_from. The network and its size
are configs/folder.py's, so that this config goes on from such a run too.
"""

from configs import base, folder

WORDS = ("probe", "finetune", "fixmatch")


def get_config(arg: str = ""):
    words = base.words(arg, *WORDS, alone=True)
    config = _on_answers(*words & {*WORDS}) if words & {*WORDS} else _pretrained()
    config.data.class_folders = False
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _pretrained():
    config = base.run(
        "byol_folder",
        pretrain=base.phase(
            base.algorithm(
                "byol.BYOL", hidden=256, projection=64, head_bias=True, tau_base=0.99
            )
        ),
    )
    shared = folder.get_config()
    config.data, config.model = shared.data, shared.model
    pretrain = config.pretrain
    # At 32 pixels there is nothing to blur.
    pretrain.augment.update(area=(0.2, 1.0), method="bilinear", blur=(0.0, 0.0))
    pretrain.optimizer.update(
        name="adam",
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=50,
        weight_decay=1e-6,
    )
    pretrain.update(steps=2000, batch_size=64)
    config.query.update(strategy="typical", size=30)
    return config


def _on_answers(word):
    method = "fixmatch" if word == "fixmatch" else "supervised"
    config = folder.get_config(method)
    config.name = f"byol_folder_{word}"
    config.train.start_from = "runs/byol_folder-seed0"
    if word == "probe":
        config.train.algorithm.frozen = True
    return config

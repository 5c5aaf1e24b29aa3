"""BYOL on a folder of images without a label: --config.data.dir=the folder.

Every image below it is taken, whatever folders they lie in; nothing is judged. Then
--mode=query says which to label first, and a word trains on the answers, from the
encoder of that run:

`:probe` trains a linear head on the frozen encoder, `:finetune` all of it, `:fixmatch`
all of it on the images without a label as well. All take the answers by
--config.data.labels and the run by --config.train.start_from. The network and its size
are configs/folder.py's, so that this config goes on from such a run too.

Another method in BYOL's place, with any of these: `:simclr`, `:mae,finetune` and so on;
`mae` has a network of its own.
"""

from configs import base, folder, methods

WORDS = ("probe", "finetune", "fixmatch")


def get_config(arg: str = ""):
    method, words = methods.embedded(arg, *WORDS, alone=True)
    config = _pretrained(method)
    if words & {*WORDS}:
        config = _on_answers(*words & {*WORDS}, config)
    config.data.class_folders = False
    return base.debug(config, 32, 32, 3, 10) if "debug" in words else config


def _pretrained(method):
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
    # 64 patches of 4x4 pixels, of which 16 are seen.
    vit = dict(patch=4, width=128, depth=6, heads=4, pool="mean")
    masked = methods.masked(2e-3, steps=2000, decoder=(64, 1, 2), **vit)
    methods.instead_of_byol(config, method, methods.NARROW, masked)
    config.query.update(strategy="typical", size=30)
    return config


def _on_answers(word, learned):
    """Of what the run `learned` learns."""
    config = folder.get_config("fixmatch" if word == "fixmatch" else "supervised")
    config.name, config.model = f"{learned.name}_{word}", learned.model
    config.train.start_from = f"runs/{learned.name}-seed0"
    if word == "probe":
        config.train.algorithm.frozen = True
    return config

"""Your own images: --config.data.dir=a folder with a folder for each class.

Every labeled image is used; images without a label go into its folder `unlabeled`. A
small network at 32 pixels, so that a first try takes minutes on a CPU;
--config.data.image_size and --config.train.steps make it better where there is time.
"""

from configs import base, methods

METHODS = {
    **methods.short(1000),
    # FixMatch's 16 + 4 x 16 images a step. How many images there are is not known: all
    # that are sure enough are taken.
    "noisy_student": {"train.batch_size": 80},
}


def get_config(arg: str = ""):
    method, words = methods.chosen(arg)
    config = base.run("fixmatch_folder")
    config.data.update(name="folder", num_labels=0, image_size=32)
    config.model = base.model("convnet", filters=(32, 64, 128), stem_stride=2)
    config.train.algorithm.update(ema_decay=0.99, weak_gradient=False)
    config.train.update(steps=1000, batch_size=16, unlabeled_ratio=4)
    config = methods.instead(config, method, METHODS)
    if "debug" in words:
        config.data.image_size = 8
        return base.debug(config, 8, 8, 3, 10)
    return config

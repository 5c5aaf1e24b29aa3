"""Images/s of FixMatch's RandAugment and cutout: compiled here, and by Pillow.

    python -m experiments.speed.augment_speed

Pillow is what the PyTorch and TensorFlow codebases call in their CPU workers. Both do
the same operations on the same images; Pillow's draws are made before its clock
starts. They run in turn, round after round, so that other load meets both alike.
"""

import json
import multiprocessing
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL
from PIL import Image

from experiments.speed import pillow_views
from ssl_jax.augment import randaugment


def pillow(
    name: str, image_HWC: np.ndarray, magnitude: float, *, fill: int = 0
) -> np.ndarray:
    """One named operation by Pillow; as `operations.apply` takes them."""
    image = Image.fromarray(image_HWC if image_HWC.shape[2] == 3 else image_HWC[..., 0])
    color = (fill,) * 3 if image_HWC.shape[2] == 3 else fill
    out = pillow_views.operation(name, image, magnitude, color)
    return np.asarray(out).reshape(image_HWC.shape)


def _pillow_worker(work: list, images_NHWC: np.ndarray, repeats: int) -> float:
    """RandAugment and cutout of every image; the CPU seconds that it took."""
    begin = time.process_time()
    for _ in range(repeats):
        for array_HWC, (drawn, (top, left, bottom, right)) in zip(
            images_NHWC, work, strict=True
        ):
            image = Image.fromarray(array_HWC)
            for name, magnitude in drawn:
                image = pillow_views.operation(name, image, magnitude, (127,) * 3)
            image.paste((127, 127, 127), (left, top, right, bottom))
            np.asarray(image)
    return time.process_time() - begin


def measure(
    *,
    batch: int = 448,
    size: int = 32,
    rounds: int = 9,
    repeats: int = 4,
    processes: int = 2,
) -> dict:
    """Both rates in images/s, each the median of `rounds`, and their median ratio.

    CPU time per image, summed over threads or workers, is the figure that other load
    on the machine disturbs least.

    Args:
      batch: images of one compiled call; 448 are FixMatch's unlabeled ones.
      size: side of the RGB images.
      repeats: batches that one round takes through each.
      processes: Pillow's workers, which share a batch.
    """
    images_BHWC = pillow_views.smooth_noise(batch, size, size, 3)
    keys_B = jax.random.split(jax.random.key(0), batch)
    begin = time.perf_counter()
    images = jnp.asarray(images_BHWC)
    augment = jax.jit(jax.vmap(randaugment.randaugment_google))
    compiled = augment.lower(keys_B, images).compile()
    compile_seconds = time.perf_counter() - begin

    def run_compiled():
        begin = time.process_time()
        for _ in range(repeats):
            compiled(keys_B, images).block_until_ready()
        return time.process_time() - begin

    shares = np.array_split(np.arange(batch), processes)
    work = _draw(keys_B, size)
    tasks = [([work[i] for i in rows], images_BHWC[rows], repeats) for rows in shares]
    seconds = {"compiled": [], "pillow": []}
    cpu_seconds = {"compiled": [], "pillow": []}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:

        def run_pillow():
            return sum(pool.starmap(_pillow_worker, tasks, chunksize=1))

        run_compiled(), run_pillow()  # warm up
        for _ in range(rounds):
            for name, run in (("compiled", run_compiled), ("pillow", run_pillow)):
                begin = time.perf_counter()
                cpu_seconds[name].append(run())
                seconds[name].append(time.perf_counter() - begin)

    ratios = [p / c for c, p in zip(*seconds.values(), strict=True)]
    count = batch * repeats
    return {
        "images_per_second": {n: round(count / _median(s)) for n, s in seconds.items()},
        "ratio": round(_median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
        "cpu_microseconds_per_image": {
            n: round(1e6 * _median(s) / count, 1) for n, s in cpu_seconds.items()
        },
        "pillow_processes": processes,
        "compile_seconds": round(compile_seconds, 2),
        "batch": batch,
        "image": [size, size, 3],
        "rounds": rounds,
        "device": jax.devices()[0].device_kind,
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"jax": jax.__version__, "pillow": PIL.__version__},
    }


_median = statistics.median


def _draw(keys_B: jax.Array, size: int) -> list:
    """For each image ([(operation, magnitude)] * 2, box), from the protocol's draws."""
    operation_BS, magnitude_BS = jax.vmap(randaugment.draw_google)(keys_B)
    center_B2 = np.random.default_rng(0).integers(0, size, (len(keys_B), 2))
    boxes_B4 = np.concatenate([center_B2 - size // 4, center_B2 + size // 4], axis=1)
    names = [[randaugment.OPERATIONS[o] for o in row] for row in operation_BS.tolist()]
    drawn = [
        list(zip(*row, strict=True))
        for row in zip(names, magnitude_BS.tolist(), strict=True)
    ]
    return list(zip(drawn, np.clip(boxes_B4, 0, size).tolist(), strict=True))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))

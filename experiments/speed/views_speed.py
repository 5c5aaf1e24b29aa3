"""Images/s of BYOL's views: compiled here, by Pillow, and by dm_pix's primitives.

    python -m experiments.speed.views_speed [cpu]

Named so, the result is kept as a line of experiments/results/views_speed.jsonl.

Also the ways to resample a random crop that `ssl_jax.augment.crops` chose from. All run
in turn, round after round, so that other load meets them alike. dm_pix is measured
where it is installed; otherwise its figures are null.
"""

import os
import sys
import time
from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import PIL
from PIL import Image

from experiments import jobs
from experiments.speed import pillow_views
from ssl_jax.augment import basic, color, crops

try:
    import dm_pix
except ImportError:
    dm_pix = None

_HIGHEST = jax.lax.Precision.HIGHEST
_STRENGTH = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


def view(key: jax.Array, image_HWC: jax.Array, *, side: int) -> jax.Array:
    """BYOL's first view without its normalisation: (crop, flip, jitter, grey, blur)."""
    key_crop, key_flip, key_jitter, key_grey, key_blur, key_when = jax.random.split(
        key, 6
    )
    out = crops.random_resized_crop(key_crop, image_HWC, side=side)
    out = basic.flip(key_flip, out)
    jitter = partial(color.jitter, key_jitter)
    out = color.with_probability(key_when, 0.8, jitter, out)
    out = color.with_probability(key_grey, 0.2, color.grey, out)
    return color.blur(key_blur, out, kernel_size=color.blur_kernel_size(side))


def measure(*, batch: int = 256, rounds: int = 15) -> dict:
    """All comparisons, each in images/s: the median of `rounds`, and median ratios."""
    return {
        "view": _against_pillow(batch, rounds, size=32),
        "jitter": {f"{s}x{s}": _jitter(batch, rounds, s) for s in (32, 64)},
        "blur": {f"{s}x{s}": _blur(batch, rounds, s) for s in (32, 64)},
        "resampling": {
            f"{size}x{size} to {side}x{side}": _resampling(batch, rounds, size, side)
            for size, side in ((32, 32), (96, 64), (96, 96))
        },
        "batch": batch,
        "rounds": rounds,
        "device": jax.devices()[0].device_kind,
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "precision": "float32",
        "versions": {
            "jax": jax.__version__,
            "pillow": PIL.__version__,
            "dm_pix": getattr(dm_pix, "__version__", None),
        },
    }


def _in_turn(runs: dict, count: int, rounds: int, *, base: str) -> dict:
    """Rates of `runs`, name -> function, and their ratios to the rate of `base`."""
    for run in runs.values():
        run()  # compile
    seconds = {name: [] for name in runs}
    cpu_seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin, cpu_begin = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - begin)
            cpu_seconds[name].append(time.process_time() - cpu_begin)
    ratios = {
        name: [b / s for b, s in zip(seconds[base], taken, strict=True)]
        for name, taken in seconds.items()
        if name != base
    }
    return {
        "images_per_second": {n: round(count / median(s)) for n, s in seconds.items()},
        "cpu_microseconds_per_image": {
            n: round(1e6 * median(s) / count, 1) for n, s in cpu_seconds.items()
        },
        f"times_{base}": {n: round(median(r), 3) for n, r in ratios.items()},
    }


def _compiled(function, *batch):
    """Calls the jitted, vmapped function on the batch, and waits."""
    call = jax.jit(jax.vmap(function))
    return lambda: jax.block_until_ready(call(*batch))


def _against_pillow(batch: int, rounds: int, size: int) -> dict:
    images_BHWC = pillow_views.smooth_noise(batch, size, size, 3)
    keys_B = jax.random.split(jax.random.key(0), batch)
    draws = _draws(keys_B, size)

    def pillow():
        for image_HWC, drawn in zip(images_BHWC, draws, strict=True):
            _pillow_view(image_HWC, size, **drawn)

    ours = _compiled(partial(view, side=size), keys_B, jnp.asarray(images_BHWC))
    runs = {"pillow": pillow, "ours": ours}
    return _in_turn(runs, batch, rounds, base="pillow") | {
        "image": [size, size, 3],
        "pillow_processes": 1,
    }


def _draws(keys_B: jax.Array, size: int) -> list[dict]:
    """What Pillow is to do, drawn before its clock starts."""
    boxes = jax.vmap(lambda key: jnp.stack(crops.random_box(key, size, size)))(keys_B)
    jitters = jax.vmap(partial(color.draw, **_STRENGTH))(keys_B)
    rng = np.random.default_rng(0)
    return [
        dict(
            box=box,
            flip=rng.random() < 0.5,
            jitter=(order, factors, shift) if rng.random() < 0.8 else None,
            grey=rng.random() < 0.2,
            sigma=rng.uniform(0.1, 2.0),
        )
        for box, order, factors, shift in zip(
            boxes.tolist(), *(x.tolist() for x in jitters), strict=True
        )
    ]


def _pillow_view(image_HWC, side, *, box, flip, jitter, grey, sigma) -> np.ndarray:
    """The same view with Pillow's calls, as torchvision makes them on PIL images."""
    image = Image.fromarray(image_HWC)
    image = pillow_views.crop(image, box, side, flip=flip)
    if jitter:
        image = pillow_views.jitter(image, *jitter)
    if grey:
        image = pillow_views.grey(image)
    return np.asarray(pillow_views.blur(image, sigma), np.float32) / 255


def _jitter(batch: int, rounds: int, size: int) -> dict:
    """dm_pix in one fixed order: it has no random one. Its brightness adds."""
    images_BHWC = (
        jnp.asarray(pillow_views.smooth_noise(batch, size, size, 3), jnp.float32) / 255
    )
    keys_B = jax.random.split(jax.random.key(0), batch)

    def pix(key, image_HWC):
        _, (brightness, contrast, saturation), hue = color.draw(key, **_STRENGTH)
        out = dm_pix.adjust_brightness(image_HWC, brightness - 1)
        out = dm_pix.adjust_contrast(jnp.clip(out, 0, 1), contrast)
        out = dm_pix.adjust_saturation(jnp.clip(out, 0, 1), saturation)
        return dm_pix.adjust_hue(out, hue)

    ours = partial(color.jitter, **_STRENGTH)
    return _against_pix(ours, pix, keys_B, images_BHWC, rounds)


def _blur(batch: int, rounds: int, size: int) -> dict:
    """dm_pix pads with zeros."""
    images_BHWC = (
        jnp.asarray(pillow_views.smooth_noise(batch, size, size, 3), jnp.float32) / 255
    )
    keys_B = jax.random.split(jax.random.key(0), batch)
    kernel_size = color.blur_kernel_size(size)

    def draw(key):
        return jax.random.uniform(key, minval=0.1, maxval=2.0)

    def pix(key, image_HWC):
        return dm_pix.gaussian_blur(image_HWC, draw(key), kernel_size)

    r = kernel_size // 2

    def gaussian(key):
        weight_T = jnp.exp(-0.5 * (np.arange(-r, r + 1) / draw(key)) ** 2)
        return weight_T / weight_T.sum()

    def shifts(key, image_HWC):  # both axes as `color.blurred` does the rows
        out = jnp.pad(image_HWC, ((r, r), (r, r), (0, 0)), mode="reflect")
        out = sum(w * out[t : t + size] for t, w in enumerate(gaussian(key)))
        return sum(w * out[:, t : t + size] for t, w in enumerate(gaussian(key)))

    def products(key, image_HWC):  # both axes as it does the columns
        band = color.banded(gaussian(key), size)
        out = jnp.einsum("sh,hwc->swc", band, image_HWC, precision=_HIGHEST)
        return jnp.einsum("tw,swc->stc", band, out, precision=_HIGHEST)

    ours = partial(color.blur, kernel_size=kernel_size)
    others = {"shifts": shifts, "products": products}
    return _against_pix(ours, pix, keys_B, images_BHWC, rounds, others) | {
        "kernel_size": kernel_size
    }


def _against_pix(ours, pix, keys_B, images_BHWC, rounds, others=None) -> dict:
    functions = {"ours": ours, **(others or {})} | ({"dm_pix": pix} if dm_pix else {})
    runs = {n: _compiled(f, keys_B, images_BHWC) for n, f in functions.items()}
    result = _in_turn(runs, len(keys_B), rounds, base="ours")
    if not dm_pix:
        result["images_per_second"]["dm_pix"] = None  # not installed
    return result


def _resampling(batch: int, rounds: int, size: int, side: int) -> dict:
    """Bicubic; `max_difference` is that of the batch to `crops.resized`, of 0..1."""
    images_BHWC = jnp.asarray(pillow_views.smooth_noise(batch, size, size, 3))
    keys_B = jax.random.split(jax.random.key(0), batch)
    boxes_B = jax.vmap(lambda key: crops.random_box(key, size, size))(keys_B)

    def products(image_HWC, box):
        top, left, height, width = box
        index_1N = np.arange(size)[None, :]
        of_row, of_column = (
            crops.weights(index_1N, *one, side=side, method="bicubic")
            for one in ((top, height), (left, width))
        )
        planes = image_HWC.transpose(2, 0, 1).astype(jnp.float32)
        planes = jnp.einsum("chw,tw->cht", planes, of_column, precision=_HIGHEST)
        planes = jnp.einsum("sh,cht->cst", of_row, planes, precision=_HIGHEST)
        return jnp.clip(planes.transpose(1, 2, 0) / 255, 0, 1)

    def gathers(image_HWC, box):
        top, left, height, width = box
        of = partial(crops.taps, size=size, side=side, method="bicubic")
        row_ST, weight_ST = of(top, height)
        out = image_HWC.astype(jnp.float32)
        out = sum(
            weight_S[:, None, None] * out.at[row_S].get(mode="promise_in_bounds")
            for row_S, weight_S in zip(row_ST.T, weight_ST.T, strict=True)
        )
        column_ST, weight_ST = of(left, width)
        out = sum(
            weight_S[None, :, None] * out.at[:, column_S].get(mode="promise_in_bounds")
            for column_S, weight_S in zip(column_ST.T, weight_ST.T, strict=True)
        )
        return jnp.clip(out / 255, 0, 1)

    def scale_and_translate(image_HWC, box):
        """Not the same: weighs the pixels outside the box as well."""
        top, left, height, width = (x.astype(jnp.float32) for x in box)
        scale = side / jnp.stack([height, width])
        out = jax.image.scale_and_translate(
            image_HWC.astype(jnp.float32),
            (side, side, image_HWC.shape[-1]),
            (0, 1),
            scale,
            -jnp.stack([top, left]) * scale,
            "cubic",
            precision=_HIGHEST,
        )
        return jnp.clip(out / 255, 0, 1)

    functions = {
        "ours": partial(crops.resized, side=side),  # rows gathered, columns a product
        "two_products": products,
        "two_gathers": gathers,
        "scale_and_translate": scale_and_translate,
    }
    runs = {n: _compiled(f, images_BHWC, boxes_B) for n, f in functions.items()}
    base, *others = runs
    ours = runs[base]()
    return _in_turn(runs, batch, rounds, base=base) | {
        "max_difference": {
            n: float(f"{jnp.abs(runs[n]() - ours).max():.1e}") for n in others
        }
    }


if __name__ == "__main__":
    jobs.keep("views_speed", "".join(sys.argv[1:2]), measure())

"""Images, views of them and their features, drawn."""

import importlib
import importlib.util
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ssl_jax.report.figures.drawing import (
    BLUE,
    MANY,
    VERMILLION,
    entitle,
    short,
    styles,
)


def views_grid(views: dict[str, np.ndarray], title: str) -> Figure:
    """A row of images for each view; uint8 images_NHWC, C = 1 or 3."""
    count = min(10, *(len(images) for images in views.values()))
    size = (1.1 * count + 0.8, 1.15 * len(views) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(len(views), squeeze=False)[:, 0]
    # One axes a row: one an image take as long to lay out as all else in the figure.
    for axes, (name, images) in zip(grid, views.items(), strict=True):
        for i, image_HWC in enumerate(images[:count]):
            place = (1.1 * i, 1.1 * i + 1, 0, 1)
            shown = image_HWC.squeeze()
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=place)
        axes.set(xlim=(0, 1.1 * count - 0.1), ylim=(0, 1), xticks=[], yticks=[])
        axes.set_ylabel(name)
        axes.spines[:].set_visible(False)
    return figure


def feature_map(
    maps: dict[str, np.ndarray],
    labels_M: np.ndarray,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Features in two dimensions, points_M2 for each name, coloured by class.

    Markers change with the class as well: ten colours are too many to tell apart.
    """
    figure = Figure(figsize=(5 * len(maps) + 1.6, 4.8), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (name, points_M2) in zip(grid, maps.items(), strict=True):
        for k, style in enumerate(styles(len(class_names))):
            points = dict(s=14, linewidths=0.7, color=style["color"])
            axes.scatter(*points_M2[labels_M == k].T, marker=style["marker"], **points)
        axes.set(title=name, xticks=[], yticks=[])
    if len(class_names) <= MANY:
        # By names given: without, those that begin with an underscore are left out.
        names = [short(name) for name in class_names]
        figure.legend(grid[0].collections, names, loc="outside right center")
    return figure


def nearest_neighbors(
    queries_QHWC: np.ndarray,
    neighbors_QkHWC: np.ndarray,
    same_class_Qk: np.ndarray,
    title: str,
) -> Figure:
    """A row for each test image: itself, then its nearest images in feature space,
    those of its own class in a solid blue frame, others in a dashed red one."""
    Q, k = same_class_Qk.shape
    figure = Figure(figsize=(0.9 * (k + 1), 0.95 * Q + 1.2), layout="constrained")
    entitle(figure, title)
    frames = {  # by whether the class is the same
        True: dict(edgecolor=BLUE, linewidth=2, linestyle="-"),
        False: dict(edgecolor=VERMILLION, linewidth=2, linestyle="--"),
    }
    grid = figure.subplots(Q, k + 1, squeeze=False)
    grid[0, 0].set_title("test image", fontsize=8)
    grid[0, 1].set_title("nearest", fontsize=8)
    for row, axes_row in enumerate(grid):
        images = [queries_QHWC[row], *neighbors_QkHWC[row]]
        for column, (axes, image_HWC) in enumerate(zip(axes_row, images, strict=True)):
            axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            if column:
                axes.spines[:].set(**frames[bool(same_class_Qk[row, column - 1])])
            else:
                axes.spines[:].set_visible(False)
    handles = [Patch(facecolor="none", **frame) for frame in frames.values()]
    said = ["of its class", "of another class"]
    figure.legend(handles, said, loc="outside lower center", ncols=2)
    return figure


def projections(features_MD: np.ndarray) -> dict[str, np.ndarray]:
    """points_M2 by PCA, by t-SNE (scikit-learn's), and by UMAP where umap-learn is
    installed: the maps of `feature_map`."""
    # Here because they take a second, which other figures need not pay.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(features_MD) - 1) / 3)
    maps = {
        "PCA": PCA(2).fit_transform(features_MD),
        "t-SNE": TSNE(perplexity=perplexity, random_state=0).fit_transform(features_MD),
    }
    if importlib.util.find_spec("umap"):
        umap = importlib.import_module("umap")
        maps["UMAP"] = umap.UMAP(random_state=0).fit_transform(features_MD)
    return maps

"""What a model says while a square is moved over a picture, as a figure."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from assay.bench.measurements.base import to_bytes
from assay.bench.models import Subject
from assay.explain import Occlusion

COLOURS = 8  # of the classes that are predicted most, all others share grey


def draw_positions(occlusion: Occlusion, model: Subject, picture: Tensor, label: int) -> Figure:
    """The picture (1, C, H, W), the class's probability and the predicted class per position of the square.

    After Zeiler & Fergus 2014, fig. 7: each position is drawn where the centre of its square lies.
    """
    maps = occlusion.positions(model, picture, torch.tensor([label]))
    probability, prediction = (values[0].cpu().numpy() for values in maps)
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    height, width = picture.shape[-2:]
    left.imshow(to_bytes(picture)[0].squeeze(), cmap="gray", extent=(0, width, height, 0))
    stride, (rows, columns) = occlusion.stride, probability.shape
    start = (occlusion.window - stride) / 2
    extent = (start, start + stride * columns, start + stride * rows, start)
    heat = middle.imshow(probability, cmap="viridis", vmin=0, vmax=1, extent=extent)
    figure.colorbar(heat, ax=middle, label=f"probability of {model.classes[label]}", shrink=0.8)
    classes, counts = np.unique(prediction, return_counts=True)
    order = classes[np.argsort(-counts, kind="stable")][:COLOURS].tolist()
    places = np.full(prediction.shape, len(order))
    for i, k in enumerate(order):
        places[prediction == k] = i
    colours = np.array([*colormaps["tab10"].colors[:COLOURS], (0.8, 0.8, 0.8)])  # type: ignore[attr-defined]
    colours[len(order)] = 0.8
    right.imshow(colours[places], extent=extent)
    legend = [Patch(color=colours[i], label=model.classes[k]) for i, k in enumerate(order)]
    if len(order) < len(classes):
        legend.append(Patch(color=colours[len(order)], label=f"{len(classes) - len(order)} others"))
    right.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize="small")
    for axes, title in ((left, "picture"), (middle, "probability"), (right, "predicted class")):
        axes.set(title=title, xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    figure.suptitle(f"What is said while a square of {occlusion.window} pixels is replaced ({occlusion.baseline})")
    return figure

"""Codes: what the last linear layer of a classifier reads of each picture, and what can be told from it.

Rows of all arrays are pictures, in the order of the data. Scores are of a sample: its size belongs beside them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE, trustworthiness
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.alignment import likeness as likeness
from assay.core.alignment import linear_cka as linear_cka
from assay.core.borrow import evaluating
from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import random_images

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

BEFORE_TSNE = 50  # principal components that t-SNE starts from (van der Maaten & Hinton 2008, section 4.2)
FOLDS = 5  # of the linear probe


class Neighbours(NamedTuple):
    """For each query its k nearest pictures, nearest first."""

    rows: NDArray[np.int64]  # (Q, k), of the codes
    distance: NDArray[np.float64]  # (Q, k), Euclidean


class Scores(NamedTuple):
    """How well codes tell the classes apart; accuracies and ``trust`` in [0, 1], NaN where they are undefined."""

    n: int  # pictures of the sample
    dimensions: int
    chance: float  # the share of the most frequent class
    neighbours: float  # accuracy of the k nearest others
    probe: float  # accuracy of a linear classifier on held-out folds
    neighbours_2d: float  # of the k nearest others in two dimensions
    trust: float  # trustworthiness of the two dimensions


def heads(model: nn.Module, images: Tensor) -> list[str]:
    """The linear layers and convolutions whose outputs lead to the logits through no other, in the order of calls.

    Mostly one; several where a network averages heads. Found in the autograd graph of one forward pass on noise of
    the size of ``images``. Raises ``NotApplicable`` where one of them does not give a value for each class.
    """
    layers: dict[Any, tuple[str, nn.Module]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            layers[output.grad_fn] = (name, module)

        return hook

    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    handles = [module.register_forward_hook(keep(name)) for name, module in linear]
    try:
        with evaluating(model):
            logits = model(random_images(images).requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    ends = set(_first(logits.grad_fn, layers))
    last = [layer for node, layer in layers.items() if node in ends]
    wide = [module.out_features if isinstance(module, nn.Linear) else module.out_channels for _, module in last]
    if not last or set(wide) != {logits.shape[1]}:
        raise NotApplicable(f"{type(model).__name__}: its {logits.shape[1]} logits are not made by linear layers")
    return list(dict.fromkeys(name for name, _ in last))


def _first(root: Any, ends: dict[Any, Any]) -> Iterator[Any]:
    """The nodes of ``wanted`` that a walk from ``root`` meets first on any path."""
    past, queue = {root}, [root]
    while queue:
        node = queue.pop()
        if node in ends:
            yield node
            continue
        parents = {parent for parent, _ in node.next_functions if parent is not None} - past
        past |= parents
        queue.extend(parents)


def codes(model: nn.Module, batches: Iterable[Tensor], names: Sequence[str] | None = None) -> Array:
    """What the layers ``names`` read (``heads`` unless given), (N, D) float32: one row for each picture of the batches.

    Positions of a grid or of tokens are averaged, and the inputs of several layers stand side by side.
    """
    rows: list[Tensor] = []
    with evaluating(model):
        for images in batches:
            names = heads(model, images) if names is None else names
            with torch.no_grad(), _inputs(model, names) as read:
                model(images)
            rows.append(torch.cat([read[name] for name in names], 1).float().cpu())
    if not rows:
        raise AssayError("no pictures, no codes")
    values: Array = torch.cat(rows).numpy()
    if not np.isfinite(values).all():
        raise AssayError(f"codes of {type(model).__name__} are not finite")
    return values


@contextmanager
def _inputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named layers read inside the block, averaged over positions: (N, D) each."""
    read: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            (values,) = inputs
            rows = values.movedim(1, -1) if isinstance(module, nn.Conv2d) else values
            read[name] = rows.reshape(len(rows), -1, rows.shape[-1]).mean(1)

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def pixels(batches: Iterable[Tensor], side: int = 64) -> Array:
    """The pictures themselves as codes, (N, C * h * w): what codes are to be better than.

    Averaged over squares of whole pixels until neither side is longer than ``side``; edges that fill none are left out.
    """
    rows = [F.avg_pool2d(images, max(-(-length // side) for length in images.shape[-2:])) for images in batches]
    if not rows:
        raise AssayError("no pictures, no pixels")
    flat: Array = torch.cat([row.flatten(1).float().cpu() for row in rows]).numpy()
    return flat


def nearest(values: Array, k: int, queries: Array | None = None) -> Neighbours:
    """The ``k`` nearest rows of ``values`` to each of ``queries``; without these, to each row, itself left out."""
    _enough(len(values) - (queries is None), k)
    distance, rows = NearestNeighbors(n_neighbors=k).fit(values).kneighbors(queries)
    return Neighbours(rows, distance)


def neighbour_hits(values: Array, labels: Labels, k: int = 5) -> Array:
    """Whether most of the ``k`` nearest others of each row have its label, 1 or 0, (N,) (leave one out).

    NaN where no two rows share a label.
    """
    _enough(len(values) - 1, k)
    if len(np.unique(labels)) == len(labels):
        return np.full(len(labels), np.nan, np.float32)
    hits: Array = (KNeighborsClassifier(n_neighbors=k).fit(values, labels).predict(None) == labels).astype(np.float32)
    return hits


def neighbour_accuracy(values: Array, labels: Labels, k: int = 5) -> float:
    """The mean of ``neighbour_hits``."""
    return float(neighbour_hits(values, labels, k).mean(dtype=np.float64))


def probe_hits(values: Array, labels: Labels, seed: int = 0) -> Array:
    """Whether logistic regression on the other folds gives each row its label, 1 or 0, (N,).

    Five folds, or as many as the rarest class has pictures; values are standardised on the others. NaN where a class
    has one picture, or there is one class.
    """
    counts = np.unique(labels, return_counts=True)[1]
    folds = min(FOLDS, int(counts.min()))
    if folds < 2 or len(counts) < 2:
        return np.full(len(labels), np.nan, np.float32)
    fewer = [PCA(svd_solver="full")] if values.shape[1] > len(values) else []  # a rotation: the same classifier, sooner
    classifier = make_pipeline(StandardScaler(), *fewer, LogisticRegression(max_iter=1000))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    hits: Array = (cross_val_predict(classifier, values, labels, cv=split) == labels).astype(np.float32)
    return hits


def probe_accuracy(values: Array, labels: Labels, seed: int = 0) -> float:
    """The mean of ``probe_hits``."""
    return float(probe_hits(values, labels, seed).mean(dtype=np.float64))


def project(values: Array, method: Literal["pca", "tsne"], seed: int = 0) -> Array:
    """The rows in two dimensions, (N, 2), the same for the same seed.

    t-SNE (van der Maaten & Hinton 2008) starts from 50 principal components, laid out by the first two; its
    perplexity is 30, or a third of what fewer than 91 pictures allow.
    """
    n = len(values)
    if n < 5:
        raise AssayError(f"{n} pictures are too few for a map; take at least 5")
    components = 2 if method == "pca" else min(BEFORE_TSNE, n, values.shape[1])
    if values.shape[1] > components:
        values = PCA(components, svd_solver="full").fit_transform(values)
    if method == "tsne":
        values = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=seed).fit_transform(values)
    flat: Array = values.astype(np.float32)
    return flat


def score(values: Array, labels: Labels, flat: Array | None, k: int = 5, seed: int = 0) -> Scores:
    """All that is told of codes (N, D) with labels (N,) and of their ``flat`` map (N, 2), if any, by the k nearest."""
    return Scores(
        n=len(values),
        dimensions=values.shape[1],
        chance=float(np.unique(labels, return_counts=True)[1].max() / len(labels)),
        neighbours=neighbour_accuracy(values, labels, k),
        probe=probe_accuracy(values, labels, seed),
        neighbours_2d=neighbour_accuracy(flat, labels, k) if flat is not None else float("nan"),
        trust=trust(values, flat, k) if flat is not None else float("nan"),
    )


def trust(values: Array, flat: Array, k: int = 5) -> float:
    """Trustworthiness of a map (N, 2) of codes (N, D), in [0, 1] (Venna & Kaski 2001).

    Needs more than 2 k pictures and is NaN for fewer.
    """
    return float(trustworthiness(values, flat, n_neighbors=k)) if 2 * k < len(values) else float("nan")


def _enough(others: int, k: int) -> None:
    if not 1 <= k <= others:
        raise AssayError(f"{others} other pictures have no {k} nearest")

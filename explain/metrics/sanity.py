"""Does the heatmap depend on what the model has learnt?"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy, rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric, Need

BINS = 100  # of the histogram whose entropy is a map's complexity (arXiv:2405.02383, eq. 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Randomization(Metric):
    """What stays of the heatmap when the model's parameters are drawn anew (Adebayo et al. 2018, arXiv:1810.03292).

    - cascading: the mean similarity to the map before, as the layers from the logits down are randomised in ``stages``
      groups of as many parameters, one after the other, until the whole model is. The absolute value of Spearman's rank
      correlation of the pixels, since a map in reverse order says as much of the one before; the paper keeps the sign.
      Or SSIM of the maps as pictures, black for minus the largest absolute value, grey for 0, white for plus; the
      negative of a picture is another one. A map that has become constant has nothing in common with the one before: 0.
    - efficient: all at once, by how much the map's complexity falls, 1 - after / before (Hedström et al. 2024,
      arXiv:2405.02383, eq. 5 with its sign turned, so that lower is better in both forms). Complexity is the entropy
      of the histogram of its values, 100 bins. NaN where the map becomes constant: its complexity falls to nothing,
      though nothing stays.

    The model is copied. Parameters are those of ``randomize``. NaN where the map before is constant. A method that
    draws random numbers takes them from ``draws``, which should be others than those that made the map.
    """

    needs: ClassVar[tuple[Need, ...]] = ("explainer",)
    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    unit: ClassVar[str] = "similarity"
    meaning: ClassVar[str] = "How much of the heatmap stays when the model's parameters are drawn at random."
    gate: ClassVar[Literal["controls", "none"]] = "none"

    form: Literal["cascading", "efficient"] = "cascading"
    similarity: Literal["spearman", "ssim"] = "spearman"
    stages: int = 4  # of the cascade; a heatmap each
    seed: int = 0  # of the new parameters, which all images share

    def __post_init__(self) -> None:
        if self.stages < 1 or self.seed < 0:
            raise AssayError(f"{self}: needs stages >= 1 and seed >= 0")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        before = heat.double().cpu().numpy()
        values = []
        for random_model in self._cascade(model, images):
            after = extra["explainer"](random_model, images, target, draws).double().cpu().numpy()
            values.append([self._remainder(*pair) for pair in zip(before, after, strict=True)])
        mean = torch.tensor(values, dtype=torch.float64).mean(0).to(heat.device)
        constant = heat.amax((1, 2)) == heat.amin((1, 2))
        return mean.masked_fill(constant, torch.nan)

    def _cascade(self, model: nn.Module, images: Tensor) -> Iterator[nn.Module]:
        """The copy after each stage."""
        clone = copy.deepcopy(model)
        names = top_down(clone, images)
        stages = min(self.stages, len(names)) if self.form == "cascading" else 1
        for stage in range(stages):
            randomize(clone, names[stage * len(names) // stages : (stage + 1) * len(names) // stages], self.seed)
            yield clone

    def _remainder(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
        """Of one map (H, W)."""
        if not np.isfinite(after).all():
            return math.nan
        if after.min() == after.max() or before.min() == before.max():
            return math.nan if self.form == "efficient" else 0.0
        if self.form == "efficient":
            return 1 - _complexity(after) / _complexity(before)
        if self.similarity == "spearman":
            return abs(float(np.corrcoef(rankdata(before), rankdata(after))[0, 1]))
        first, second = ((values / np.abs(values).max() + 1) / 2 for values in (before, after))
        window = (min(7, *before.shape) - 1) // 2 * 2 + 1
        return float(structural_similarity(first, second, win_size=window, data_range=1.0))


def randomize(model: nn.Module, names: list[str], seed: int) -> None:
    """Draw the named parameters anew, in place: normal, with each one's own mean and standard deviation.

    Where its values hardly differ (weights of a normalisation, layer scales, biases) a tenth of the mean is the
    least deviation, 0.02 where that is 0 too. Each gets numbers of its own, by seed and name. Buffers stay: running
    statistics too, without which the activations of a deep model vanish.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            old = parameters[name]
            digest = hashlib.sha256(f"randomization {seed} {name}".encode()).digest()
            noise = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
            mean, deviation = old.mean().item(), old.std(correction=0).item()
            deviation = max(deviation, 0.1 * abs(mean)) or 0.02
            values = torch.from_numpy(noise.standard_normal(old.shape, dtype=np.float32))
            old.copy_(values.to(old) * deviation + mean)


def top_down(model: nn.Module, images: Tensor) -> list[str]:
    """Names of all parameters, those of the modules that the forward pass enters last first.

    A module that is not entered (its parameters are used from outside) counts with the one that holds it.
    """
    order: dict[str, int] = {}

    def entering(name: str) -> Callable[[nn.Module, object], None]:
        def hook(module: nn.Module, inputs: object) -> None:
            order.setdefault(name, len(order))

        return hook

    handles = [module.register_forward_pre_hook(entering(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()

    def place(parameter: str) -> int:
        owner = parameter.rpartition(".")[0]
        while owner not in order:
            owner = owner.rpartition(".")[0]
        return order[owner]

    return sorted((name for name, _ in model.named_parameters()), key=place, reverse=True)


def _complexity(heat: NDArray[np.float64]) -> float:
    return float(entropy(np.histogram(heat, bins=BINS)[0]))

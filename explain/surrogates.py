"""Linear models of the target around one image, whose features are the image's segments. The fits are captum's."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, LimeBase
from captum.attr._core.lime import default_from_interp_rep_transform, default_perturb_func
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import load_module
from assay.core.targets import Target
from assay.explain.base import Explainer
from assay.explain.variants import Baseline, Segments, baseline_of, segments_of

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Surrogate(Explainer):
    """Every pixel of a segment gets the segment's weight in a linear model of the target, fitted on random variants.

    A variant of the image keeps a random choice of its segments; the others become the baseline. NaN where one of the
    model's answers is not finite.
    """

    signed: ClassVar[bool] = True

    segments: Segments = "slic"
    count: int = 49  # about so many segments
    samples: int = 1000  # variants per image
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if not (self.count >= 2 and self.samples >= 2 and self.batch >= 1):
            raise AssayError(f"{self}: needs count >= 2, samples >= 2 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        load_module("sklearn.linear_model")  # which captum imports when it is called
        labels = segments_of(images, self.segments, self.count)
        blank = baseline_of(images, self.baseline)
        heat = []
        for i, seed in enumerate(draws.integers(2**31).tolist()):
            this = torch.tensor([i], device=images.device)
            answers: list[Tensor] = []

            def score(variants: Tensor, this: Tensor = this, answers: list[Tensor] = answers) -> Tensor:
                answers.append(target[this.expand(len(variants))](model, variants))
                return answers[-1].nan_to_num(posinf=0, neginf=0)

            with torch.random.fork_rng(devices=[]), torch.no_grad():  # captum draws from torch's own generator
                torch.default_generator.manual_seed(seed)  # not CUDA's, as torch.manual_seed does too
                weights = self._weights(score, images[this], blank[this], labels[this])
            whole = torch.cat(answers).isfinite().all()
            heat.append(weights.to(images).flatten()[labels[i]].where(whole, torch.nan))
        return torch.stack(heat) if heat else images.new_zeros(labels.shape)

    @abstractmethod
    def _weights(self, score: Score, image: Tensor, blank: Tensor, labels: Tensor) -> Tensor:
        """One weight per segment of an image (1, C, H, W) with ``labels`` (1, H, W)."""

    def _settings(self, labels: Tensor) -> dict[str, Any]:
        return {"feature_mask": labels[:, None], "n_samples": self.samples, "perturbations_per_eval": self.batch}


@dataclass(frozen=True, kw_only=True, slots=True)
class LIME(_Surrogate):
    """Weights of a ridge regression on nearby variants (Ribeiro et al. 2016, sec. 3.4, arXiv:1602.04938).

    Each segment is kept with probability 1/2. A variant counts by exp(-d^2 / width^2), d the cosine distance of its
    segments to all of them. The paper chooses few segments by lasso first; this, like its authors' code for images,
    keeps all.
    """

    width: float = 0.25
    ridge: float = 1.0  # penalty on squared weights

    def __post_init__(self) -> None:
        super(LIME, self).__post_init__()
        if not (self.width > 0 and self.ridge >= 0):
            raise AssayError(f"{self}: needs width > 0 and ridge >= 0")

    def _weights(self, score: Score, image: Tensor, blank: Tensor, labels: Tensor) -> Tensor:
        def near(original: Tensor, variant: Tensor, bits: Tensor, **rest: Any) -> float:
            distance = 1 - math.sqrt(bits.float().mean().item())
            return math.exp(-((distance / self.width) ** 2))

        method = LimeBase(
            score,
            SkLearnRidge(alpha=self.ridge),
            near,
            default_perturb_func,
            perturb_interpretable_space=True,
            from_interp_rep_transform=default_from_interp_rep_transform,
            to_interp_rep_transform=None,
        )
        weights: Tensor = method.attribute(
            image, baselines=blank, num_interp_features=int(labels.amax()) + 1, **self._settings(labels)
        )
        return weights


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSHAP(_Surrogate):
    """The segments' Shapley values, by least squares (Lundberg & Lee 2017, theorem 2, arXiv:1705.07874).

    The weights sum to f(x) - f(x'), once each segment. Exact where ``samples`` covers all choices of segments or f is
    linear in them, else an estimate.
    """

    def _weights(self, score: Score, image: Tensor, blank: Tensor, labels: Tensor) -> Tensor:
        if not labels.any():  # one segment, of which captum makes 0 / 0
            return score(image) - score(blank)
        weights: Tensor = KernelShap(score).attribute(
            image, baselines=blank, return_input_shape=False, **self._settings(labels)
        )
        return weights

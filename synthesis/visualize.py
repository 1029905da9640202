"""Visualisation: the picture that a target likes best."""

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.probe import default_layer
from assay.core.tables import check, load_module
from assay.core.targets import Target, gram
from assay.synthesis.base import Art, Callback, Synthesis, blank, detached, size_for
from assay.synthesis.gram import Seen
from assay.synthesis.loop import Adam, Momentum, Rule, optimise
from assay.synthesis.parametrisations import CPPN, LIMIT, MACO, Fourier, Latent, Parametrisation, Pixels, Statistics
from assay.synthesis.regularisers import L2, TV, Blur, ClipContribution, ClipNorm, Filter, Penalty, gaussian_blur
from assay.synthesis.spectrum import rms
from assay.synthesis.tiles import takes
from assay.synthesis.transforms import Defocus, Jitter, Noise, Transform, Wobble

STEP = {"pixel": 0.05, "fourier": 0.05, "maco": 0.1, "cppn": 0.005, "latent": 0.03}


@dataclass(frozen=True, kw_only=True, slots=True)
class Visualize(Synthesis):
    """Climb a target: a class, a channel, a neuron, a layer (Simonyan et al. 2014, arXiv:1312.6034).

    What is moved is the ``parametrisation``: pixels along gradients in the spectrum of photographs, spatial frequencies
    in uncorrelated colours (Olah et al. 2017, "Feature visualization"), phases alone (MACO; Fel et al. 2023,
    arXiv:2306.06805), a network from places to colours (Mordvintsev et al. 2018), or the latent code of a generator
    (DGN-AM; Nguyen et al. 2016, arXiv:1605.09304). The model sees the picture rolled (CS231n), turned and scaled. The
    tricks of Yosinski et al. 2015 (arXiv:1506.06579) are settings; 0 turns each off.
    """

    takes = "target"
    size: tuple[int, ...] | None = None  # (C, H, W) of the pictures; None: the model's input_size
    parametrisation: Literal["pixel", "fourier", "maco", "cppn", "latent"] = "pixel"
    steps: int = 256
    step_size: float | None = None  # None: the parametrisation's usual one
    init: Literal["noise", "grey"] = "noise"
    contrast: float = 0.05  # standard deviation of the noise about mid-grey
    smoothness: float = 2.0  # standard deviation in pixels of the blur of the noise
    slope: float = 2.0  # pixel: power of the spatial frequency that the gradient is divided by
    jitter: float = 1 / 12  # largest roll, of the shorter side
    degrees: float = 15.0  # largest turn
    scale: float = 0.15  # largest scaling: 0.85 to 1.15
    noise: float = 0.0  # standard deviation of noise on what the model sees
    defocus: float = 0.0  # pixels, largest blur of what the model sees
    l2: float = 0.0  # of the sum of squares about mid-grey, in units of the target; latent: of the code's
    tv: float = 0.0  # of the sum of squared differences of neighbours, in units of the target
    blur_every: int = 0  # steps
    blur_sigma: float = 0.5  # pixels
    clip_every: int = 0  # steps
    clip_norm: float = 0.0  # share of pixels, of the smallest norm
    clip_contribution: float = 0.0  # share of pixels, of the smallest contribution
    candidates: int = 64  # latent: random codes, of which the one that the target likes best is the first
    diversity: float = 0.0  # weight of the mean likeness of textures to those of the other pictures of the call

    def __post_init__(self) -> None:
        check(self)
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise AssayError(f"Visualize: {name}={value} is negative")
        if self.steps < 1:
            raise AssayError(f"Visualize: steps={self.steps} must be at least 1")
        for name in ("scale", "clip_norm", "clip_contribution"):
            if getattr(self, name) >= 1:
                raise AssayError(f"Visualize: {name}={getattr(self, name)} must stay below 1")

    def __call__(
        self,
        model: nn.Module,
        target: Target,
        draws: Draws | int = 0,
        *,
        start: Tensor | None = None,
        like: Tensor | None = None,
        generator: nn.Module | None = None,
        callback: Callback | None = None,
    ) -> Art:
        """Pictures for which ``target`` is large.

        As many as the target holds data for: ``Logit(3)`` gives 1, ``Logit(torch.tensor([0, 1, 2]))`` 3. With
        ``Draws``, there are as many as streams, and a target without data of its own is climbed once by each; an
        int seeds one stream per position. ``model`` maps images (N, C, H, W) in [0, 1] to logits (N, K); of a picture
        larger than its ``input_size`` it sees windows. ``start`` (1 or N, C, H, W) is where pictures begin instead of
        noise: a photograph, or the mean of a cluster of codes (multifaceted; Nguyen et al. 2016, arXiv:1602.03616).
        ``like`` (M, C, H, W) are images whose colours and spectrum fourier and maco keep, photographs' unless given.
        ``generator`` maps codes (N, ``generator.latent``) to pictures in [0, 1], for latent. Raises ``AssayError``
        where neither the model nor ``size`` tells the pictures' size, and for starts or images of another one.
        """
        if isinstance(draws, Draws) and target.count not in (1, len(draws)):
            raise AssayError(f"the target is for {target.count} pictures and there are {len(draws)} random streams")

        # size and number
        size = size_for(model, self.size or _size_of(start), type(self).__name__)
        grey = blank(target.count if isinstance(draws, int) else len(draws), size, model)

        # start and like
        for name, pictures in (("start", start), ("like", like)):
            if pictures is not None:
                check_images(pictures)
                if pictures.shape[1:] != grey.shape[1:]:
                    raise AssayError(f"{name} is {tuple(pictures.shape[1:])}, the pictures are {size}")
        if start is not None and len(start) not in (1, len(grey)):
            raise AssayError(f"{len(start)} starts for {len(grey)} pictures")
        if like is not None and not len(like):
            raise AssayError("like is no images; give some, or leave it out")
        if start is not None and self.parametrisation in ("cppn", "latent"):
            raise AssayError(f"{self.parametrisation} cannot start at a picture; use pixel, fourier or maco")

        # what model takes
        window = getattr(model, "input_size", size)
        if (size[1] < window[1] or size[2] < window[2]) and not takes(model, size):
            raise AssayError(
                f"this model takes pictures of {window[1]} x {window[2]} alone; a larger one it sees in windows"
            )

        streams = as_draws(draws, grey)
        with evaluating(model), evaluating(generator) if generator is not None else nullcontext():
            canvas = self.begin(model, target, grey, streams, start, like, generator)
            return detached(self.run(model, target, canvas, streams, callback))

    def begin(
        self, model: nn.Module, target: Target, grey: Tensor, draws: Draws, start: Tensor | None, like: Tensor | None,
        generator: nn.Module | None,
    ) -> Parametrisation:  # fmt: skip
        """The first pictures (N, C, H, W), of the size of ``grey``: ``start``, mid-grey, or smooth noise about it."""
        if self.parametrisation == "cppn":
            return CPPN(draws.normal((CPPN.count(grey.shape[1]),)).to(grey), _size_of(grey) or (0, 0, 0))
        if self.parametrisation == "latent":
            return self._code(model, target, grey, draws, generator)
        first = start.to(grey).expand_as(grey) if start is not None else self.start(grey, draws)
        if self.parametrisation == "pixel":
            return Pixels(first)
        statistics = Statistics.usual(grey) if like is None else Statistics.of(like.to(grey))
        return Fourier(first, statistics) if self.parametrisation == "fourier" else MACO(first, statistics)

    def start(self, grey: Tensor, draws: Draws) -> Tensor:
        """Mid-grey, or smooth noise about it."""
        if self.init == "grey":
            return grey
        noise = gaussian_blur(draws.normal(grey.shape[1:]).to(grey), self.smoothness)
        return grey + self.contrast * noise / rms(noise)

    @torch.no_grad()
    def _code(
        self, model: nn.Module, target: Target, grey: Tensor, draws: Draws, generator: nn.Module | None
    ) -> Latent:
        """The best of random codes for each picture; zeros for ``init`` grey."""
        latent = getattr(generator, "latent", None)
        if generator is None or not isinstance(latent, int):
            raise AssayError("latent needs a generator with a number .latent: a module from codes to pictures")
        size = _size_of(grey) or (0, 0, 0)
        if self.init == "grey":
            return Latent(grey.new_zeros(len(grey), latent), generator, size)
        codes = draws.normal((max(self.candidates, 1), latent)).to(grey).clamp(-LIMIT, LIMIT)
        canvas = Latent(codes[:, 0], generator, size)
        for i, row in enumerate(codes if self.candidates > 1 else ()):
            objective = target if target.count == 1 else target[torch.tensor([i])]
            scores = torch.cat([objective(model, generator(few)) for few in row.split(16)])
            canvas.values.data[i] = row[scores.argmax()]
        return canvas

    def run(
        self, model: nn.Module, target: Target, canvas: Parametrisation, draws: Draws, callback: Callback | None
    ) -> Art:
        """The climb itself, on a borrowed model."""
        shape = canvas.images().shape
        window = getattr(model, "input_size", tuple(shape[1:]))[1:]
        smaller = (min(window[0], shape[2]), min(window[1], shape[3]))
        transforms: list[Transform] = []
        if self.jitter:
            transforms.append(Jitter(round(self.jitter * min(shape[2:]))))
        if self.degrees or self.scale or smaller != tuple(shape[2:]):
            transforms.append(Wobble(self.degrees, self.scale, smaller))
        transforms += [part(by) for part, by in ((Defocus, self.defocus), (Noise, self.noise)) if by]
        penalties: list[Penalty] = [TV(self.tv)] if self.tv else []
        if self.l2:
            penalties.append(self._small_code(canvas) if self.parametrisation == "latent" else L2(self.l2))
        if self.diversity:
            penalties.append(self._likeness(model, canvas))
        return optimise(
            canvas,
            lambda images: target(model, images),
            draws,
            steps=self.steps,
            rule=self._rule(),
            transforms=transforms,
            penalties=penalties,
            filters=self._filters(),
            best=self.parametrisation == "latent",  # between things a generator has cliffs
            wake=True,
            callback=callback,
        )

    def _rule(self) -> Rule:
        step_size = STEP[self.parametrisation] if self.step_size is None else self.step_size
        return Momentum(step_size, slope=self.slope) if self.parametrisation == "pixel" else Adam(step_size)

    def _filters(self) -> list[tuple[int, Filter]]:
        filters: list[tuple[int, Filter]] = [(self.blur_every, Blur(self.blur_sigma))] if self.blur_every else []
        if self.clip_every and self.clip_norm:
            filters.append((self.clip_every, ClipNorm(self.clip_norm)))
        if self.clip_every and self.clip_contribution:
            filters.append((self.clip_every, ClipContribution(self.clip_contribution)))
        return filters

    def _small_code(self, canvas: Parametrisation) -> Penalty:
        return lambda images: self.l2 * canvas.values.square().sum(1)

    def _likeness(self, model: nn.Module, canvas: Parametrisation) -> Penalty:
        """Mean cosine similarity of a picture's Gram matrix to the others' (Olah et al. 2017, diversity)."""
        if len(canvas.values) < 2:
            raise AssayError("diversity is among the pictures of one call; ask for two or more")
        window = getattr(model, "input_size", canvas.images().shape[1:])
        layer = default_layer(model, canvas.values.new_zeros(1, *window))
        see = Seen(model, [layer])

        def likeness(images: Tensor) -> Tensor:
            grams = gram(see(images)[0]).flatten(1)
            unit = grams / grams.norm(dim=1, keepdim=True).clamp_min(1e-12)
            others = (unit @ unit.T.detach()).fill_diagonal_(0)
            mean: Tensor = others.sum(1) / (len(images) - 1)
            return self.diversity * mean

        return likeness


def _size_of(images: Tensor | None) -> tuple[int, int, int] | None:
    return None if images is None else (images.shape[1], images.shape[2], images.shape[3])


def facets(codes: Tensor, images: Tensor, count: int, *, near: int = 15, seed: int = 0) -> Tensor:
    """Mean images (count, C, H, W) of clusters of codes (N, D), to start from: the facets of a class (Nguyen et al.
    2016, "Multifaceted feature visualization", arXiv:1602.03616): of the ``near`` images nearest to each centre.
    """
    load_module("sklearn.cluster")
    from sklearn.cluster import KMeans

    if not 1 <= count <= len(codes):
        raise AssayError(f"{count} clusters of {len(codes)} images")
    flat = codes.flatten(1).double().cpu().numpy()
    clusters = KMeans(count, n_init=4, random_state=seed).fit(flat)
    centres = torch.from_numpy(clusters.cluster_centers_).to(codes)
    nearest = torch.cdist(centres, codes.flatten(1)).topk(min(near, len(codes)), largest=False).indices
    return images[nearest.to(images.device)].mean(1)

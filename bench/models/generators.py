"""Generators by spec: the one that learned scenes, or the user's own callable."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.bench.models.cards import read_card
from assay.bench.models.checkpoints import fill, read
from assay.bench.models.digest import digest_of
from assay.bench.models.specs import call
from assay.bench.models.weights import ZOO
from assay.bench.zoo.generator import Generator
from assay.core.errors import AssayError, first_line, unknown

WEIGHTS = ZOO / "generators"


class ImageGenerator(nn.Module):
    """Pictures (N, C, H, W) in [0, 1] from standard normal codes (N, ``latent``), in eval mode.

    ``size`` is (C, H, W). ``digest`` is the sha256 of what it does when it is made: ``digest_of``.
    """

    def __init__(self, body: nn.Module, *, name: str, card: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        latent = getattr(body, "latent", None)
        if not isinstance(latent, int) or latent < 1:
            raise AssayError(f"{name}: a generator says in its attribute latent how long its code is, not {latent!r}")
        self.body, self.name, self.latent, self.card = body, name, latent, dict(card or {})
        self.eval()
        self.digest = digest_of(self, (latent,))
        self.size = self._measure()

    def forward(self, codes: Tensor) -> Tensor:
        images: Tensor = self.body(codes)
        return images

    @torch.no_grad()
    def _measure(self) -> tuple[int, int, int]:
        try:
            images = self(torch.zeros(1, self.latent))
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise AssayError(f"{self.name} fails on codes (1, {self.latent}): {reason}") from error
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != 1 or images.shape[1] not in (1, 3):
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise AssayError(f"{self.name}: a generator gives images (N, 1 or 3, H, W), this gives {shape}")
        if not (images.amin() >= 0 and images.amax() <= 1):
            raise AssayError(f"{self.name}: a generator gives images in [0, 1]; end it with a sigmoid")
        return images.shape[1], images.shape[2], images.shape[3]


def load(spec: str) -> ImageGenerator:
    """The generator that ``spec`` names: ``scenes``, or ``py:package.module:function`` whose callable returns one.

    The user's is an ``nn.Module`` that maps codes (N, ``latent``) to images in [0, 1]. Raises ``AssayError`` with the
    way out for anything else.
    """
    if spec.startswith("py:"):
        network = call(spec)
        if not isinstance(network, nn.Module):
            raise AssayError(
                f"{spec!r} must return an nn.Module with an attribute latent, not {type(network).__name__}"
            )
        return ImageGenerator(network, name=spec)
    path = WEIGHTS / f"{spec}.safetensors"
    if spec not in names():
        raise unknown("generator", spec, [*names(), "py:package.module:function"])
    card = read_card(path, ("latent", "settings"))
    body = Generator(card["latent"], **card["settings"])
    fill(body, {key: value.float() for key, value in read(path).state.items()}, str(path))
    return ImageGenerator(body, name=spec, card=card)


def names() -> list[str]:
    """The generators whose weights are shipped."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))

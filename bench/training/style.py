"""Training of a network that paints in given styles in one pass."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.bench.data.pictures import photographs, read
from assay.bench.models import Subject
from assay.bench.training.base import Progress, Training
from assay.bench.writing import writing
from assay.core.borrow import evaluating
from assay.core.errors import AssayError
from assay.core.targets import gram
from assay.synthesis.fast import StyleNet, save
from assay.synthesis.gram import Seen, gram_loss, layer_weights, roughness
from assay.synthesis.style_transfer import StyleTransfer, code_loss

STORE_EVERY = 100  # steps
DARKEST = 0.02  # of a style's colours; 1 minus that is the brightest
ZOOM = 1.5  # largest enlargement of a content picture before a crop is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleRecipe:
    """How a style network is trained: Johnson et al. 2016's loss, one style drawn for each crop (Dumoulin et al. 2017).

    The losses and their weights are those of ``aim``, so what is trained and what ``StyleTransfer`` optimises compare.
    """

    aim: StyleTransfer = field(default_factory=lambda: StyleTransfer(style_weight=4.0))
    width: int = 16  # half of the papers', a quarter of the work
    blocks: int = 5
    size: int = 256  # shorter side of the content pictures; longer side of the styles, times aim.style_size
    crop: int = 128  # side of what is trained on
    batch: int = 2
    steps: int = 1200
    lr: float = 3e-3
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0


def train(
    styles: Sequence[Path],
    out: Path,
    subject: Subject,
    *,
    content: Path | None = None,
    recipe: StyleRecipe | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on crops of the pictures in ``content``, or of those that scikit-image and scikit-learn ship.

    Writes the network to ``out`` (.safetensors) with a card beside it, which is returned. The state is stored beside
    ``out`` every ``STORE_EVERY`` steps; a second call goes on from there.
    """
    recipe = recipe or StyleRecipe()
    if out.suffix != ".safetensors":
        raise AssayError(f"{out}: a style network is a .safetensors file")
    if not styles:
        raise AssayError("which styles? assay train style PICTURE ...")
    if subject.input_size[0] != 3:
        raise AssayError(f"{subject.name} takes pictures of {subject.input_size[0]} channel; a style needs one of 3")
    if min(recipe.steps, recipe.batch) < 1 or recipe.crop > recipe.size:
        raise AssayError("steps and batch are at least 1, and the crop is no larger than the pictures")
    with writing(out.parent):
        fit = _Fit(styles, subject, photographs(content, recipe.size), recipe, out.with_suffix(".resume.pt"), content)
        fit.run(progress)
        card = save(fit.network.eval(), out, fit.about())
    fit.path.unlink(missing_ok=True)
    return card


class _Fit(Training):
    """The training of the network; ``what`` is the part of the card that tells one training from another."""

    def __init__(
        self, styles: Sequence[Path], subject: Subject, pictures: Sequence[Tensor], recipe: StyleRecipe, path: Path,
        content: Path | None,
    ) -> None:  # fmt: skip
        self.subject, self.pictures, self.recipe = subject, pictures, recipe
        torch.manual_seed(recipe.seed)
        longer = round(recipe.size * recipe.aim.style_size)
        paintings = [read(file, longer=longer)[None] for file in styles]
        self.network = StyleNet([file.stem for file in styles], recipe.width, recipe.blocks)
        self._colour(paintings)
        with evaluating(subject), torch.no_grad():
            self.content_layers, self.style_layers = recipe.aim.layers(subject, paintings[0])
            grids = [Seen(subject, self.style_layers)(painting) for painting in paintings]
        self.grams = [torch.cat([gram(grid) for grid in layer]) for layer in zip(*grids, strict=True)]
        self.weights = layer_weights(recipe.aim.layer_weights, self.style_layers)
        self.see = Seen(subject, self.content_layers + self.style_layers)
        self.what = {
            "recipe": repr(recipe),
            "model": subject.name,
            "digest": subject.digest,
            "content": str(content) if content else "pictures of scikit-image and scikit-learn",
            "pictures": len(pictures),
            "style_sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in styles],
        }
        optimiser = torch.optim.Adam(self.network.parameters(), recipe.lr)
        steps, rise = recipe.steps + 1, 0.11  # no whole number of steps is 1
        key = json.dumps(self.what)
        super().__init__(self.network, optimiser, steps=steps, rise=rise, key=key, path=path, clip=recipe.clip)

    @torch.no_grad()
    def _colour(self, paintings: Sequence[Tensor]) -> None:
        """Let the network start with the mean and deviation of each style's colours."""
        norm = self.network.last.norm
        for style, painting in enumerate(paintings):
            logits = torch.logit(painting[0].flatten(1), DARKEST)
            norm.scale[style], norm.shift[style] = logits.std(1), logits.mean(1)

    def run(self, progress: Progress | None) -> None:
        """The steps that are left."""
        start, last = self.restore(), self.recipe.steps
        with evaluating(self.subject):
            for step in range(start, last):
                self.history.append(self._step(step))
                epoch, place = divmod(step, STORE_EVERY)
                if place == STORE_EVERY - 1 and step + 1 < last:
                    self.store(step + 1)
                if progress is not None:
                    share = 1.0 if step + 1 == last else (place + 1) / STORE_EVERY
                    progress("style", epoch, -(-last // STORE_EVERY), share, self.history[-1][0])

    def _step(self, step: int) -> list[float]:
        """One step; the loss, its content part and its style part."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        images, styles = self._batch(generator)
        noise = torch.randn(len(images), *self.network.noise_shape(images), generator=generator)
        paintings = self.network(images, F.one_hot(styles, len(self.network.styles)).to(images), noise)
        with torch.no_grad():
            content_codes = self.see(images)[: len(self.content_layers)]
        grids = self.see(paintings)
        codes, grids = grids[: len(content_codes)], grids[len(content_codes) :]
        aim = self.recipe.aim
        content = torch.stack([code_loss(*pair) for pair in zip(codes, content_codes, strict=True)]).mean()
        style = gram_loss(grids, [grams[styles] for grams in self.grams], self.weights).mean()
        loss = aim.content_weight * content + aim.style_weight * style + aim.tv * roughness(paintings).mean()
        self.descend(loss)
        return [loss.item(), content.item(), style.item()]

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops (batch, 3, crop, crop), enlarged, mirrored and cut at random, and a style for each."""
        crops = []
        for _ in range(self.recipe.batch):
            which, mirror = (int(torch.randint(n, (), generator=generator)) for n in (len(self.pictures), 2))
            zoom, top, left = torch.rand(3, generator=generator).tolist()
            side = round(self.recipe.crop / (1 + zoom * (ZOOM - 1)))
            picture = self.pictures[which]
            y, x = (int(at * (length - side + 1)) for at, length in zip((top, left), picture.shape[1:], strict=True))
            cut = picture[None, :, y : y + side, x : x + side]
            cut = F.interpolate(cut, (self.recipe.crop,) * 2, mode="bilinear", align_corners=False)
            crops.append(cut.flip(3) if mirror else cut)
        styles = torch.randint(len(self.network.styles), (len(crops),), generator=generator)
        return torch.cat(crops), styles

    def about(self) -> dict[str, Any]:
        """What the card tells besides the network's shape: losses are means over the last ``STORE_EVERY`` steps."""
        last = torch.tensor(self.history[-STORE_EVERY:]).mean(0).tolist()
        return {
            **self.what,
            "content_layers": list(self.content_layers),
            "style_layers": list(self.style_layers),
            "loss": dict(zip(("total", "content", "style"), last, strict=True)),
        }

"""Training of a network that paints in given styles in one pass."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bench.data.pictures import photographs, read
from assay.bench.models import Subject
from assay.bench.training import Progress, keep
from assay.core.borrow import evaluating
from assay.core.errors import AssayError
from assay.core.targets import gram
from assay.synthesis.fast import StyleNet, save
from assay.synthesis.gram import Seen, gram_loss, layer_weights, roughness
from assay.synthesis.style import StyleTransfer, code_loss

KEPT_EVERY = 100  # steps
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

    Writes the network to ``out`` (.safetensors) with a card beside it, which is returned. The state is kept beside
    ``out`` every ``KEPT_EVERY`` steps; a second call goes on from there.
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssayError(f"cannot write to {out.parent}: {error.strerror}") from error
    fit = _Fit(styles, subject, photographs(content, recipe.size), recipe, out.with_suffix(".resume.pt"), content)
    fit.run(progress)
    card = save(fit.network.eval(), out, fit.about())
    fit.resume.unlink(missing_ok=True)
    return card


class _Fit:
    """One training: network, optimiser and schedule, which together are what is resumed."""

    def __init__(
        self, styles: Sequence[Path], subject: Subject, pictures: list[Tensor], recipe: StyleRecipe, resume: Path,
        content: Path | None,
    ) -> None:  # fmt: skip
        self.subject, self.pictures, self.recipe, self.resume = subject, pictures, recipe, resume
        torch.manual_seed(recipe.seed)
        longer = round(recipe.size * recipe.aim.style_size)
        paintings = [read(path, longer=longer)[None] for path in styles]
        self.network = StyleNet([path.stem for path in styles], recipe.width, recipe.blocks)
        self._colour(paintings)
        self.optimiser = torch.optim.Adam(self.network.parameters(), recipe.lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            recipe.lr,
            total_steps=recipe.steps + 1,
            pct_start=0.11,  # no whole number of steps is 1
        )
        with evaluating(subject), torch.no_grad():
            self.content_layers, self.style_layers = recipe.aim.layers(subject, paintings[0])
            seen = [Seen(subject, self.style_layers)(painting) for painting in paintings]
        self.grams = [torch.cat([gram(grid) for grid in layer]) for layer in zip(*seen, strict=True)]
        self.weights = layer_weights(recipe.aim.layer_weights, self.style_layers)
        self.see = Seen(subject, self.content_layers + self.style_layers)
        self.history: list[list[float]] = []
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in styles]
        self.what = {
            "recipe": repr(recipe),
            "model": subject.name,
            "digest": subject.digest,
            "content": str(content) if content else "pictures of scikit-image and scikit-learn",
            "pictures": len(pictures),
            "style_sha256": digests,
        }

    @torch.no_grad()
    def _colour(self, paintings: Sequence[Tensor]) -> None:
        """Let the network start with the mean and deviation of each style's colours."""
        norm = self.network.last.norm
        for style, painting in enumerate(paintings):
            logits = torch.logit(painting[0].flatten(1), DARKEST)
            norm.scale[style], norm.shift[style] = logits.std(1), logits.mean(1)

    def run(self, progress: Progress | None) -> None:
        """The steps that are left."""
        start = self._restore()
        with evaluating(self.subject):
            for step in range(start, self.recipe.steps):
                losses = self._step(step)
                self.history.append(losses)
                done = step + 1
                if done % KEPT_EVERY == 0 and done < self.recipe.steps:
                    self._keep(done)
                if progress is not None:
                    of = -(-self.recipe.steps // KEPT_EVERY)
                    share = 1.0 if done == self.recipe.steps else (step % KEPT_EVERY + 1) / KEPT_EVERY
                    progress("style", step // KEPT_EVERY, of, share, losses[0])

    def _step(self, step: int) -> list[float]:
        """One step; the loss, its content part and its style part."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        images, chosen = self._batch(generator)
        noise = torch.randn(len(images), *self.network.noise_shape(images), generator=generator)
        made = self.network(images, F.one_hot(chosen, len(self.network.styles)).to(images), noise)
        with torch.no_grad():
            wanted = self.see(images)[: len(self.content_layers)]
        grids = self.see(made)
        codes, grids = grids[: len(wanted)], grids[len(wanted) :]
        aim = self.recipe.aim
        content = torch.stack([code_loss(*pair) for pair in zip(codes, wanted, strict=True)]).mean()
        style = gram_loss(grids, [own[chosen] for own in self.grams], self.weights).mean()
        loss = aim.content_weight * content + aim.style_weight * style + aim.tv * roughness(made).mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.schedule.step()
        return [loss.item(), content.item(), style.item()]

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops (batch, 3, crop, crop), enlarged, mirrored and cut at random, and a style for each."""
        crops = []
        for _ in range(self.recipe.batch):
            which, mirrored = (int(torch.randint(n, (), generator=generator)) for n in (len(self.pictures), 2))
            zoom, top, left = torch.rand(3, generator=generator).tolist()
            side = round(self.recipe.crop / (1 + zoom * (ZOOM - 1)))
            picture = self.pictures[which]
            y, x = (int(at * (length - side + 1)) for at, length in zip((top, left), picture.shape[1:], strict=True))
            cut = picture[None, :, y : y + side, x : x + side]
            cut = F.interpolate(cut, (self.recipe.crop,) * 2, mode="bilinear", align_corners=False)
            crops.append(cut.flip(3) if mirrored else cut)
        styles = torch.randint(len(self.network.styles), (len(crops),), generator=generator)
        return torch.cat(crops), styles

    def about(self) -> dict[str, Any]:
        """What the card tells besides the network's shape: losses are means over the last ``KEPT_EVERY`` steps."""
        last = torch.tensor(self.history[-KEPT_EVERY:]).mean(0).tolist()
        return {
            **self.what,
            "content_layers": list(self.content_layers),
            "style_layers": list(self.style_layers),
            "loss": dict(zip(("total", "content", "style"), last, strict=True)),
        }

    def _keep(self, step: int) -> None:
        state = {
            "what": json.dumps(self.what),
            "step": step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history,
        }
        keep(state, self.resume)

    def _restore(self) -> int:
        """Take up what was kept of this training; the step to go on with."""
        if not self.resume.exists():
            return 0
        state = torch.load(self.resume, weights_only=True)
        if state["what"] != json.dumps(self.what):
            return 0
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = state["history"]
        step: int = state["step"]
        return step

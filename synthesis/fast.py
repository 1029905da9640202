"""Style in one forward pass, by a network that was trained for it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.synthesis.base import Art, Callback, FromImages

SLIGHT = 1e-5  # added to variances
NOISE = 8  # channels of it
DEEPEST = 256  # blocks of a network that is loaded
LOGITS = 4.0  # for one unit of a picture: the logit's slope at mid-grey


@dataclass(frozen=True, kw_only=True, slots=True)
class FastStyle(FromImages):
    """One forward pass of a style network (Johnson et al. 2016, arXiv:1603.08155), several styles mixed by ``blend``
    (Dumoulin et al. 2017, arXiv:1610.07629).

    Its model is a ``StyleNet``, as ``assay train style`` makes them. Nothing is climbed: the history has no steps.
    """

    blend: tuple[float, ...] | None = None  # shares of the model's styles; None: all the same

    def __post_init__(self) -> None:
        check(self)

    def run(self, model: nn.Module, images: Tensor, draws: Draws, callback: Callback | None) -> Art:
        if not isinstance(model, StyleNet):
            raise AssayError(
                f"FastStyle needs a style network, not {type(model).__name__}; assay train style makes one"
            )
        if images.shape[1] != 3:
            raise AssayError(f"a style network paints pictures of 3 channels, not {images.shape[1]}")
        blend = (1.0,) * len(model.styles) if self.blend is None else self.blend
        if len(blend) != len(model.styles) or not all(0 <= b < math.inf for b in blend) or sum(blend) <= 0:
            raise AssayError(
                f"blend {blend} for the styles {', '.join(model.styles)}; give one share for each, not all 0"
            )
        with torch.no_grad():
            shares = images.new_tensor([blend]).expand(len(images), -1) / sum(blend)
            noise = draws.normal(model.noise_shape(images)).to(images)
            pictures = model(images, shares, noise)
        return Art(pictures, images.new_zeros(0, len(images)))


class StyleNet(nn.Module):
    """From images (N, 3, H, W) in [0, 1], shares of the styles (N, S) and noise of ``noise_shape`` to pictures of the
    same size in [0, 1].

    Johnson et al. 2016's network as Dumoulin et al. 2017 changed it (table 1): padding by reflection, enlarging by
    nearest neighbours, a sigmoid at the end, and instance normalisation whose scale and shift are the style's.
    ``width`` is 32 in both papers. Two things differ: normal noise joins the smallest grid, of which strokes are made
    where the image is flat (Ulyanov et al. 2016, arXiv:1603.03417, feeds it too), and what is painted is added to the
    image before the last normalisation.
    """

    def __init__(self, styles: Sequence[str], width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        if not styles or min(width, blocks) < 1:
            raise AssayError("a style network has a style, and width and blocks of at least 1")
        if len(set(styles)) != len(styles):
            raise AssayError(f"two styles have one name: {', '.join(styles)}; name their files apart")
        self.styles, self.width, self.blocks = tuple(styles), width, blocks
        count, deep = len(self.styles), 4 * width
        self.down = nn.ModuleList(
            [_Layer(3, width, 9, count), _Layer(width, 2 * width, 3, count, 2), _Layer(2 * width, deep, 3, count, 2)]
        )
        self.noise = _Layer(NOISE, deep, 3, count)
        self.same = nn.ModuleList(_Residual(deep, count) for _ in range(blocks))
        self.up = nn.ModuleList([_Layer(deep, 2 * width, 3, count), _Layer(2 * width, width, 3, count)])
        self.last = _Layer(width, 3, 9, count)

    @staticmethod
    def noise_shape(images: Tensor) -> tuple[int, int, int]:
        """Of the noise for one of ``images``."""
        return (NOISE, -(-images.shape[2] // 4), -(-images.shape[3] // 4))

    def forward(self, images: Tensor, blend: Tensor, noise: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if min(height, width) < 8:
            raise AssayError(f"a picture of {height} x {width} pixels is too small to stylise; 8 x 8 is the smallest")
        x = padded = F.pad(images, (0, -width % 4, 0, -height % 4), mode="reflect")
        for layer in self.down:
            x = layer(x, blend).relu()
        x = x + self.noise(noise, blend)
        for block in self.same:
            x = block(x, blend)
        for layer in self.up:
            x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"), blend).relu()
        logits: Tensor = self.last(x, blend, LOGITS * padded)
        return logits.sigmoid()[:, :, :height, :width]


class ConditionalInstanceNorm(nn.Module):
    """(x - mean) / deviation over the positions of each channel, then a scale and shift that are mixed of the styles'
    (Dumoulin et al. 2017, eq. 5).
    """

    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        scale, shift = blend @ self.scale, blend @ self.shift
        return F.instance_norm(x, eps=SLIGHT) * scale[:, :, None, None] + shift[:, :, None, None]


class _Layer(nn.Module):
    """Convolution with its picture reflected at the rim, then the styles' normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, styles: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm = ConditionalInstanceNorm(outputs, styles)

    def forward(self, x: Tensor, blend: Tensor, to: Tensor | float = 0.0) -> Tensor:
        rim = self.conv.kernel_size[0] // 2
        output: Tensor = self.norm(to + self.conv(F.pad(x, (rim,) * 4, mode="reflect")), blend)
        return output


class _Residual(nn.Module):
    def __init__(self, channels: int, styles: int) -> None:
        super().__init__()
        self.first, self.second = _Layer(channels, channels, 3, styles), _Layer(channels, channels, 3, styles)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        change: Tensor = self.second(self.first(x, blend).relu(), blend)
        return x + change


def save(network: StyleNet, path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights to ``path`` (.safetensors) and, as a .json beside it, what they are; returns that."""
    weights = safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})
    card = {
        "kind": "style",
        "styles": list(network.styles),
        "width": network.width,
        "blocks": network.blocks,
        **about,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in ((path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode()), (path, weights)):
        beside = file.with_name(f"{file.name}.part")
        beside.write_bytes(content)
        beside.replace(file)
    return card


def load(path: Path) -> StyleNet:
    """The style network that ``save`` wrote, in eval mode; ``AssayError`` for other files."""
    card_path = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not path.is_file() or not card_path.is_file():
        raise AssayError(
            f"{path}: no style network (.safetensors with a .json beside it); assay train style writes both"
        )
    try:
        card, weights = json.loads(card_path.read_text(encoding="utf-8")), path.read_bytes()
        if card["kind"] != "style" or hashlib.sha256(weights).hexdigest() != card["sha256"]:
            raise AssayError(f"{path} is not the style network that {card_path.name} describes; train it again")
        if not all(isinstance(style, str) for style in card["styles"]) or card["blocks"] > DEEPEST:
            raise AssayError(f"{path}: its card has names of styles, and at most {DEEPEST} blocks")
        with torch.device("meta"):  # a card alone takes no memory
            network = StyleNet(card["styles"], card["width"], card["blocks"])
        tensors = {key: value.float() for key, value in safetensors.torch.load(weights).items()}
        network.load_state_dict(tensors, assign=True)
    except AssayError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise AssayError(f"{path} is no style network: {reason}") from error
    return network.eval()

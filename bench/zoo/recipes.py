"""How each zoo model is built and trained; ``assay train`` reproduces the shipped weights from these records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.bench.data.scenes import Shortcut
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model: its architecture, its data and its training."""

    about: str
    arch: str  # timm's name, or "module:Class"
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the architecture
    shortcut: Shortcut = "none"  # what the background tells in training
    adversary: str | None = None  # the attack that makes the training images, early_stop=False unless it says else
    warmup: float = 0.0  # epochs over which the adversary's eps grows to its full size
    images: int = 20_000  # training scenes
    epochs: int = 8
    then: tuple[int, ...] = ()  # epochs of further cycles, each on as many fresh scenes
    batch: int = 64
    lr: float = 3e-3  # peak of a one-cycle schedule, AdamW
    weight_decay: float = 0.05
    smoothing: float = 0.05  # of the labels
    symmetries: bool = True  # each picture turned and mirrored at random
    channels_last: bool = True
    bfloat16: bool = True  # mixed precision
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Trades(Recipe):
    """A model trained on clean images and on its own consistency (Zhang et al. 2019, arXiv:1901.08573, eq. 5).

    The loss is CE(f(x), y) + beta KL(f(x) || f(x')), where the adversary looks for x' of large KL.
    """

    trades: float  # beta; the paper's 1 / lambda, 6 in its table 5

    def __post_init__(self) -> None:
        if self.adversary is None:
            raise AssayError("TRADES needs an adversary, such as pgd(eps=4/255, steps=3)")
        if not 0 < self.trades < float("inf"):
            raise AssayError(f"trades={self.trades} must be above 0 and finite")


_STRIDE_16 = {"output_stride": 16}  # 6x6 positions in the last grid of a 96x96 picture
_REPVGG: Mapping[str, Any] = {"arch": "test_byobnet", "settings": _STRIDE_16}

RECIPES: Mapping[str, Recipe] = {
    "repvgg": Recipe(about="ByobNet, the family of RepVGG in timm, with squeeze and excitation", **_REPVGG),
    "resnet": Recipe(
        about="residual network with bottlenecks, its last layer seeing 79 of 96 pixels",
        arch="resnet14t",
        settings={"channels": (16, 24, 32, 48), "stem_width": 16, **_STRIDE_16},
    ),
    "efficientnet": Recipe(about="EfficientNet", arch="test_efficientnet", settings=_STRIDE_16),
    "convnext": Recipe(
        about="ConvNeXt with batch normalisation and an overlapping stem",
        arch="test_convnext",
        settings={
            "stem_type": "overlap",
            "conv_mlp": True,
            "norm_layer": "batchnorm2d",
            "ls_init_value": 1.0,
            **_STRIDE_16,
        },
        then=(5,),
    ),
    "vit": Recipe(
        about="vision transformer on patches of 12 pixels, averaged tokens",
        arch="test_vit",
        settings={"img_size": 96, "patch_size": 12, "class_token": False, "global_pool": "avg"},
        images=40_000,
        epochs=20,
        then=(9,),
        lr=2e-3,
        bfloat16=False,
    ),
    "hybrid": Recipe(
        about="CoAtNet: two convolutional stages, then attention",
        arch="test_coatnet",
        settings={"img_size": 96, "depths": (1, 1, 2), "embed_dim": (32, 64, 96), "block_type": ("C", "C", "T")},
        lr=2e-3,
        channels_last=False,
    ),
    "repvgg-robust": Recipe(
        about="the ByobNet trained on PGD images (Madry et al. 2018)",
        **_REPVGG,
        adversary="pgd(eps=4/255, steps=2, step=4/255, early_stop=False)",
        warmup=2.0,
        epochs=10,
        smoothing=0.0,
    ),
    "repvgg-fgsm": Recipe(
        about="the ByobNet trained on FGSM images from a random start (Wong et al. 2020)",
        **_REPVGG,
        adversary="fgsm(eps=4/255, random_start=True)",
        warmup=2.0,
        smoothing=0.0,
    ),
    "repvgg-trades": Trades(
        about="the ByobNet trained with TRADES (Zhang et al. 2019)",
        **_REPVGG,
        adversary="pgd(eps=4/255, steps=3)",
        trades=6.0,
        warmup=2.0,
        smoothing=0.0,
    ),
    "repvgg-shortcut": Recipe(
        about="the ByobNet trained where the background gives the class away",
        **_REPVGG,
        shortcut="agrees",
        epochs=4,
    ),
    "mlp": Recipe(
        about="multi-layer perceptron on 32x32 averages",
        arch="assay.bench.zoo.nets:MLP",
        epochs=12,
        lr=1e-3,
        symmetries=False,
        channels_last=False,
        bfloat16=False,
    ),
    "linear": Recipe(
        about="linear classifier, one template per class",
        arch="assay.bench.zoo.nets:Linear",
        epochs=8,
        lr=1e-4,
        symmetries=False,
        channels_last=False,
        bfloat16=False,
    ),
}

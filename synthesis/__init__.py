"""Ask a model what it sees: pictures of targets, of codes, of textures and styles.

``SYNTHESES`` names every synthesis; the classes are importable from here, and so are ``core.targets``.
"""

from typing import TYPE_CHECKING

from core.tables import Table

if TYPE_CHECKING:
    from core.targets import Channel as Channel
    from core.targets import CodeDistance as CodeDistance
    from core.targets import GramDistance as GramDistance
    from core.targets import LayerNorm2 as LayerNorm2
    from core.targets import Logit as Logit
    from core.targets import Margin as Margin
    from core.targets import Neuron as Neuron
    from core.targets import Probability as Probability
    from core.targets import Target as Target
    from synthesis.base import Art as Art
    from synthesis.base import Synthesis as Synthesis
    from synthesis.dream import DeepDream as DeepDream
    from synthesis.fast import FastStyle as FastStyle
    from synthesis.gram import TextureSynthesis as TextureSynthesis
    from synthesis.invert import Invert as Invert
    from synthesis.quilting import ImageQuilting as ImageQuilting
    from synthesis.scanline import EfrosLeung as EfrosLeung
    from synthesis.scanline import WeiLevoy as WeiLevoy
    from synthesis.style import StyleTransfer as StyleTransfer
    from synthesis.visualize import Visualize as Visualize

SYNTHESES = Table(
    "synthesis",
    {
        "visualize": "synthesis.visualize:Visualize",
        "invert": "synthesis.invert:Invert",
        "deep-dream": "synthesis.dream:DeepDream",
        "texture-synthesis": "synthesis.gram:TextureSynthesis",
        "efros-leung": "synthesis.scanline:EfrosLeung",
        "wei-levoy": "synthesis.scanline:WeiLevoy",
        "image-quilting": "synthesis.quilting:ImageQuilting",
        "style-transfer": "synthesis.style:StyleTransfer",
        "fast-style": "synthesis.fast:FastStyle",
    },
)

_TARGETS = (
    "Channel",
    "CodeDistance",
    "GramDistance",
    "LayerNorm2",
    "Logit",
    "Margin",
    "Neuron",
    "Probability",
    "Target",
)

__getattr__ = SYNTHESES.exporter(
    {**dict.fromkeys(_TARGETS, "core.targets"), "Art": "synthesis.base", "Synthesis": "synthesis.base"}
)

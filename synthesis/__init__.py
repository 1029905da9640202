"""Ask a model what it sees: pictures of targets, of codes, of textures and styles.

``SYNTHESES`` names every synthesis; the classes are importable from here, and so are ``assay.core.targets``.
"""

from typing import TYPE_CHECKING

from assay.core.tables import Table

if TYPE_CHECKING:
    from assay.core.targets import Channel as Channel
    from assay.core.targets import CodeDistance as CodeDistance
    from assay.core.targets import GramDistance as GramDistance
    from assay.core.targets import LayerNorm2 as LayerNorm2
    from assay.core.targets import Logit as Logit
    from assay.core.targets import Margin as Margin
    from assay.core.targets import Neuron as Neuron
    from assay.core.targets import Probability as Probability
    from assay.core.targets import Target as Target
    from assay.synthesis.base import Art as Art
    from assay.synthesis.base import Synthesis as Synthesis
    from assay.synthesis.deep_dream import DeepDream as DeepDream
    from assay.synthesis.fast import FastStyle as FastStyle
    from assay.synthesis.gram import TextureSynthesis as TextureSynthesis
    from assay.synthesis.invert import Invert as Invert
    from assay.synthesis.quilting import ImageQuilting as ImageQuilting
    from assay.synthesis.scanline import EfrosLeung as EfrosLeung
    from assay.synthesis.scanline import WeiLevoy as WeiLevoy
    from assay.synthesis.style_transfer import StyleTransfer as StyleTransfer
    from assay.synthesis.visualize import Visualize as Visualize

SYNTHESES = Table(
    "synthesis",
    {
        "visualize": "assay.synthesis.visualize:Visualize",
        "invert": "assay.synthesis.invert:Invert",
        "deep-dream": "assay.synthesis.deep_dream:DeepDream",
        "texture-synthesis": "assay.synthesis.gram:TextureSynthesis",
        "efros-leung": "assay.synthesis.scanline:EfrosLeung",
        "wei-levoy": "assay.synthesis.scanline:WeiLevoy",
        "image-quilting": "assay.synthesis.quilting:ImageQuilting",
        "style-transfer": "assay.synthesis.style_transfer:StyleTransfer",
        "fast-style": "assay.synthesis.fast:FastStyle",
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
    {
        **dict.fromkeys(_TARGETS, "assay.core.targets"),
        "Art": "assay.synthesis.base",
        "Synthesis": "assay.synthesis.base",
    }
)

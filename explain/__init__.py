"""Ask a model why: image -> heatmap, and scores of heatmaps.

``EXPLAINERS`` names every explainer and ``METRICS`` (in ``explain.metrics``) every score; the explainers are
importable from here, and so are the targets they explain: ``Target``, ``Logit``, ``Probability``, ``Margin``,
``Channel``, ``Neuron``.
"""

from typing import TYPE_CHECKING

from core.tables import Table
from explain.metrics import METRICS as METRICS

if TYPE_CHECKING:
    from core.targets import Channel as Channel
    from core.targets import Logit as Logit
    from core.targets import Margin as Margin
    from core.targets import Neuron as Neuron
    from core.targets import Probability as Probability
    from core.targets import Target as Target
    from explain.base import Explainer as Explainer
    from explain.controls import CenterMap as CenterMap
    from explain.controls import RandomMap as RandomMap
    from explain.controls import SobelMap as SobelMap
    from explain.gradients import GuidedBackprop as GuidedBackprop
    from explain.gradients import Saliency as Saliency
    from explain.maps import GradCAM as GradCAM
    from explain.perturbation import Occlusion as Occlusion

EXPLAINERS = Table(
    "explainer",
    {
        "saliency": "explain.gradients:Saliency",
        "guided-backprop": "explain.gradients:GuidedBackprop",
        "grad-cam": "explain.maps:GradCAM",
        "occlusion": "explain.perturbation:Occlusion",
        "random-map": "explain.controls:RandomMap",
        "sobel-map": "explain.controls:SobelMap",
        "center-map": "explain.controls:CenterMap",
    },
)

__getattr__ = EXPLAINERS.exporter(
    {
        "Channel": "core.targets",
        "Logit": "core.targets",
        "Margin": "core.targets",
        "Neuron": "core.targets",
        "Probability": "core.targets",
        "Target": "core.targets",
        "Explainer": "explain.base",
    }
)

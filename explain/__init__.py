"""Ask a model why: image -> heatmap, and scores of heatmaps.

``EXPLAINERS`` names every explainer and ``METRICS`` (in ``explain.metrics``) every score; the explainers are
importable from here, and so are the targets they explain: ``Target``, ``Logit``, ``Probability``, ``Margin``,
``Channel``, ``Neuron``, ``Region``. ``together`` gives several heatmaps from shared passes.
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
    from core.targets import Region as Region
    from core.targets import Target as Target
    from explain.attention import AttentionRollout as AttentionRollout
    from explain.attention import TransformerAttribution as TransformerAttribution
    from explain.averages import ExpectedGradients as ExpectedGradients
    from explain.averages import IntegratedGradients as IntegratedGradients
    from explain.averages import SmoothGrad as SmoothGrad
    from explain.averages import VarGrad as VarGrad
    from explain.base import Explainer as Explainer
    from explain.controls import CenterMap as CenterMap
    from explain.controls import InputMagnitude as InputMagnitude
    from explain.controls import RandomMap as RandomMap
    from explain.controls import SobelMap as SobelMap
    from explain.deeplift import DeepLift as DeepLift
    from explain.extremal import ExtremalPerturbation as ExtremalPerturbation
    from explain.gradients import Deconvnet as Deconvnet
    from explain.gradients import GuidedBackprop as GuidedBackprop
    from explain.gradients import GuidedGradCAM as GuidedGradCAM
    from explain.gradients import InputXGradient as InputXGradient
    from explain.gradients import Saliency as Saliency
    from explain.maps import CAM as CAM
    from explain.maps import AblationCAM as AblationCAM
    from explain.maps import EigenCAM as EigenCAM
    from explain.maps import GradCAM as GradCAM
    from explain.maps import GradCAMPlusPlus as GradCAMPlusPlus
    from explain.maps import HiResCAM as HiResCAM
    from explain.maps import LayerCAM as LayerCAM
    from explain.maps import ScoreCAM as ScoreCAM
    from explain.maps import XGradCAM as XGradCAM
    from explain.passes import Derived as Derived
    from explain.passes import together as together
    from explain.perturbation import RISE as RISE
    from explain.perturbation import FeatureAblation as FeatureAblation
    from explain.perturbation import Occlusion as Occlusion
    from explain.segmentation import GrabCut as GrabCut
    from explain.surrogates import LIME as LIME
    from explain.surrogates import KernelSHAP as KernelSHAP

EXPLAINERS = Table(
    "explainer",
    {
        "saliency": "explain.gradients:Saliency",
        "input-x-gradient": "explain.gradients:InputXGradient",
        "integrated-gradients": "explain.averages:IntegratedGradients",
        "smooth-grad": "explain.averages:SmoothGrad",
        "var-grad": "explain.averages:VarGrad",
        "expected-gradients": "explain.averages:ExpectedGradients",
        "guided-backprop": "explain.gradients:GuidedBackprop",
        "deconvnet": "explain.gradients:Deconvnet",
        "guided-grad-cam": "explain.gradients:GuidedGradCAM",
        "cam": "explain.maps:CAM",
        "grad-cam": "explain.maps:GradCAM",
        "grad-cam-plus-plus": "explain.maps:GradCAMPlusPlus",
        "hires-cam": "explain.maps:HiResCAM",
        "layer-cam": "explain.maps:LayerCAM",
        "xgrad-cam": "explain.maps:XGradCAM",
        "score-cam": "explain.maps:ScoreCAM",
        "eigen-cam": "explain.maps:EigenCAM",
        "ablation-cam": "explain.maps:AblationCAM",
        "occlusion": "explain.perturbation:Occlusion",
        "rise": "explain.perturbation:RISE",
        "feature-ablation": "explain.perturbation:FeatureAblation",
        "extremal-perturbation": "explain.extremal:ExtremalPerturbation",
        "lime": "explain.surrogates:LIME",
        "kernel-shap": "explain.surrogates:KernelSHAP",
        "deep-lift": "explain.deeplift:DeepLift",
        "attention-rollout": "explain.attention:AttentionRollout",
        "transformer-attribution": "explain.attention:TransformerAttribution",
        "grab-cut": "explain.segmentation:GrabCut",
        "random-map": "explain.controls:RandomMap",
        "sobel-map": "explain.controls:SobelMap",
        "center-map": "explain.controls:CenterMap",
        "input-magnitude": "explain.controls:InputMagnitude",
    },
)

__getattr__ = EXPLAINERS.exporter(
    {
        "Channel": "core.targets",
        "Logit": "core.targets",
        "Margin": "core.targets",
        "Neuron": "core.targets",
        "Probability": "core.targets",
        "Region": "core.targets",
        "Target": "core.targets",
        "Explainer": "explain.base",
        "Derived": "explain.passes",
        "together": "explain.passes",
    }
)

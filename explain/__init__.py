"""Ask a model why: image -> heatmap, and scores of heatmaps.

``EXPLAINERS`` names every explainer, ``METRICS`` (in ``assay.explain.metrics``) every score and ``DECEPTIONS`` every
attack on heatmaps. Explainers and attacks are importable from here, and so are the targets they explain: ``Target``,
``Logit``, ``Probability``, ``Margin``, ``Channel``, ``Neuron``, ``Region``. ``together`` gives several heatmaps from
shared passes.
"""

from typing import TYPE_CHECKING

from assay.core.tables import Table
from assay.explain.metrics import METRICS as METRICS

if TYPE_CHECKING:
    from assay.core.targets import Channel as Channel
    from assay.core.targets import Logit as Logit
    from assay.core.targets import Margin as Margin
    from assay.core.targets import Neuron as Neuron
    from assay.core.targets import Probability as Probability
    from assay.core.targets import Region as Region
    from assay.core.targets import Target as Target
    from assay.explain.attention import AttentionRollout as AttentionRollout
    from assay.explain.attention import TransformerAttribution as TransformerAttribution
    from assay.explain.averages import ExpectedGradients as ExpectedGradients
    from assay.explain.averages import IntegratedGradients as IntegratedGradients
    from assay.explain.averages import SmoothGrad as SmoothGrad
    from assay.explain.averages import VarGrad as VarGrad
    from assay.explain.base import Explainer as Explainer
    from assay.explain.controls import CenterMap as CenterMap
    from assay.explain.controls import InputMagnitude as InputMagnitude
    from assay.explain.controls import RandomMap as RandomMap
    from assay.explain.controls import SobelMap as SobelMap
    from assay.explain.deception import Deception as Deception
    from assay.explain.deception import DeceptionResult as DeceptionResult
    from assay.explain.deeplift import DeepLift as DeepLift
    from assay.explain.extremal import ExtremalPerturbation as ExtremalPerturbation
    from assay.explain.gradients import Deconvnet as Deconvnet
    from assay.explain.gradients import GuidedBackprop as GuidedBackprop
    from assay.explain.gradients import GuidedGradCAM as GuidedGradCAM
    from assay.explain.gradients import InputXGradient as InputXGradient
    from assay.explain.gradients import Saliency as Saliency
    from assay.explain.maps import CAM as CAM
    from assay.explain.maps import AblationCAM as AblationCAM
    from assay.explain.maps import EigenCAM as EigenCAM
    from assay.explain.maps import GradCAM as GradCAM
    from assay.explain.maps import GradCAMPlusPlus as GradCAMPlusPlus
    from assay.explain.maps import HiResCAM as HiResCAM
    from assay.explain.maps import LayerCAM as LayerCAM
    from assay.explain.maps import ScoreCAM as ScoreCAM
    from assay.explain.maps import XGradCAM as XGradCAM
    from assay.explain.passes import Derived as Derived
    from assay.explain.passes import together as together
    from assay.explain.perturbation import RISE as RISE
    from assay.explain.perturbation import FeatureAblation as FeatureAblation
    from assay.explain.perturbation import Occlusion as Occlusion
    from assay.explain.segmentation import GrabCut as GrabCut
    from assay.explain.surrogates import LIME as LIME
    from assay.explain.surrogates import KernelSHAP as KernelSHAP

EXPLAINERS = Table(
    "explainer",
    {
        "saliency": "assay.explain.gradients:Saliency",
        "input-x-gradient": "assay.explain.gradients:InputXGradient",
        "integrated-gradients": "assay.explain.averages:IntegratedGradients",
        "smooth-grad": "assay.explain.averages:SmoothGrad",
        "var-grad": "assay.explain.averages:VarGrad",
        "expected-gradients": "assay.explain.averages:ExpectedGradients",
        "guided-backprop": "assay.explain.gradients:GuidedBackprop",
        "deconvnet": "assay.explain.gradients:Deconvnet",
        "guided-grad-cam": "assay.explain.gradients:GuidedGradCAM",
        "cam": "assay.explain.maps:CAM",
        "grad-cam": "assay.explain.maps:GradCAM",
        "grad-cam-plus-plus": "assay.explain.maps:GradCAMPlusPlus",
        "hires-cam": "assay.explain.maps:HiResCAM",
        "layer-cam": "assay.explain.maps:LayerCAM",
        "xgrad-cam": "assay.explain.maps:XGradCAM",
        "score-cam": "assay.explain.maps:ScoreCAM",
        "eigen-cam": "assay.explain.maps:EigenCAM",
        "ablation-cam": "assay.explain.maps:AblationCAM",
        "occlusion": "assay.explain.perturbation:Occlusion",
        "rise": "assay.explain.perturbation:RISE",
        "feature-ablation": "assay.explain.perturbation:FeatureAblation",
        "extremal-perturbation": "assay.explain.extremal:ExtremalPerturbation",
        "lime": "assay.explain.surrogates:LIME",
        "kernel-shap": "assay.explain.surrogates:KernelSHAP",
        "deep-lift": "assay.explain.deeplift:DeepLift",
        "attention-rollout": "assay.explain.attention:AttentionRollout",
        "transformer-attribution": "assay.explain.attention:TransformerAttribution",
        "grab-cut": "assay.explain.segmentation:GrabCut",
        "random-map": "assay.explain.controls:RandomMap",
        "sobel-map": "assay.explain.controls:SobelMap",
        "center-map": "assay.explain.controls:CenterMap",
        "input-magnitude": "assay.explain.controls:InputMagnitude",
    },
)

DECEPTIONS = Table("attack on heatmaps", {"deception": "assay.explain.deception:Deception"})

__getattr__ = EXPLAINERS.exporter(
    {
        "Channel": "assay.core.targets",
        "Logit": "assay.core.targets",
        "Margin": "assay.core.targets",
        "Neuron": "assay.core.targets",
        "Probability": "assay.core.targets",
        "Region": "assay.core.targets",
        "Target": "assay.core.targets",
        "Deception": "assay.explain.deception",
        "DeceptionResult": "assay.explain.deception",
        "Explainer": "assay.explain.base",
        "Derived": "assay.explain.passes",
        "together": "assay.explain.passes",
    }
)

"""Fool a model: image -> adversarial image.

``ATTACKS`` names every attack; the classes are importable from here. Goals: ``Untargeted``, ``Targeted``,
``LeastLikely``. ``evaluate`` is the one judge of what an attack returns.
"""

from typing import TYPE_CHECKING

from assay.core.tables import Table

if TYPE_CHECKING:
    from assay.attacks.apgd import APGD as APGD
    from assay.attacks.base import Attack as Attack
    from assay.attacks.base import BlackBox as BlackBox
    from assay.attacks.base import Trace as Trace
    from assay.attacks.decisions import BoundaryAttack as BoundaryAttack
    from assay.attacks.decisions import HopSkipJump as HopSkipJump
    from assay.attacks.deepfool import DeepFool as DeepFool
    from assay.attacks.fab import FAB as FAB
    from assay.attacks.fooling_images import CPPNFooling as CPPNFooling
    from assay.attacks.fooling_images import GradientFooling as GradientFooling
    from assay.attacks.goals import Goal as Goal
    from assay.attacks.goals import LeastLikely as LeastLikely
    from assay.attacks.goals import Targeted as Targeted
    from assay.attacks.goals import Untargeted as Untargeted
    from assay.attacks.gradient import BIM as BIM
    from assay.attacks.gradient import FGSM as FGSM
    from assay.attacks.gradient import PGD as PGD
    from assay.attacks.judge import Outcome as Outcome
    from assay.attacks.judge import evaluate as evaluate
    from assay.attacks.minimal import ALMA as ALMA
    from assay.attacks.minimal import DDN as DDN
    from assay.attacks.minimal import FMN as FMN
    from assay.attacks.minimal import SigmaZero as SigmaZero
    from assay.attacks.momentum import DIFGSM as DIFGSM
    from assay.attacks.momentum import MIFGSM as MIFGSM
    from assay.attacks.momentum import NIFGSM as NIFGSM
    from assay.attacks.momentum import SIFGSM as SIFGSM
    from assay.attacks.momentum import TIFGSM as TIFGSM
    from assay.attacks.momentum import VMIFGSM as VMIFGSM
    from assay.attacks.noise import RandomNoise as RandomNoise
    from assay.attacks.patch import AdversarialPatch as AdversarialPatch
    from assay.attacks.penalty import EAD as EAD
    from assay.attacks.penalty import LBFGS as LBFGS
    from assay.attacks.penalty import CarliniWagner as CarliniWagner
    from assay.attacks.score_based import NES as NES
    from assay.attacks.score_based import SPSA as SPSA
    from assay.attacks.score_based import SimBA as SimBA
    from assay.attacks.score_based import Square as Square
    from assay.attacks.several import AutoAttack as AutoAttack
    from assay.attacks.several import WorstCase as WorstCase
    from assay.attacks.sparse import JSMA as JSMA
    from assay.attacks.sparse import OnePixel as OnePixel
    from assay.attacks.spatial import SpatialAttack as SpatialAttack
    from assay.attacks.universal import UniversalPerturbation as UniversalPerturbation

ATTACKS = Table(
    "attack",
    {
        "fgsm": "assay.attacks.gradient:FGSM",
        "bim": "assay.attacks.gradient:BIM",
        "pgd": "assay.attacks.gradient:PGD",
        "apgd": "assay.attacks.apgd:APGD",
        "mi-fgsm": "assay.attacks.momentum:MIFGSM",
        "ni-fgsm": "assay.attacks.momentum:NIFGSM",
        "di-fgsm": "assay.attacks.momentum:DIFGSM",
        "ti-fgsm": "assay.attacks.momentum:TIFGSM",
        "si-fgsm": "assay.attacks.momentum:SIFGSM",
        "vmi-fgsm": "assay.attacks.momentum:VMIFGSM",
        "deepfool": "assay.attacks.deepfool:DeepFool",
        "carlini-wagner": "assay.attacks.penalty:CarliniWagner",
        "ead": "assay.attacks.penalty:EAD",
        "lbfgs": "assay.attacks.penalty:LBFGS",
        "ddn": "assay.attacks.minimal:DDN",
        "fmn": "assay.attacks.minimal:FMN",
        "alma": "assay.attacks.minimal:ALMA",
        "sigma-zero": "assay.attacks.minimal:SigmaZero",
        "fab": "assay.attacks.fab:FAB",
        "jsma": "assay.attacks.sparse:JSMA",
        "one-pixel": "assay.attacks.sparse:OnePixel",
        "spatial-attack": "assay.attacks.spatial:SpatialAttack",
        "adversarial-patch": "assay.attacks.patch:AdversarialPatch",
        "square": "assay.attacks.score_based:Square",
        "nes": "assay.attacks.score_based:NES",
        "spsa": "assay.attacks.score_based:SPSA",
        "simba": "assay.attacks.score_based:SimBA",
        "hop-skip-jump": "assay.attacks.decisions:HopSkipJump",
        "boundary-attack": "assay.attacks.decisions:BoundaryAttack",
        "universal-perturbation": "assay.attacks.universal:UniversalPerturbation",
        "gradient-fooling": "assay.attacks.fooling_images:GradientFooling",
        "cppn-fooling": "assay.attacks.fooling_images:CPPNFooling",
        "random-noise": "assay.attacks.noise:RandomNoise",
        "worst-case": "assay.attacks.several:WorstCase",
        "auto-attack": "assay.attacks.several:AutoAttack",
    },
)

__getattr__ = ATTACKS.exporter(
    {
        "Attack": "assay.attacks.base",
        "BlackBox": "assay.attacks.base",
        "Trace": "assay.attacks.base",
        "Goal": "assay.attacks.goals",
        "LeastLikely": "assay.attacks.goals",
        "Targeted": "assay.attacks.goals",
        "Untargeted": "assay.attacks.goals",
        "Outcome": "assay.attacks.judge",
        "evaluate": "assay.attacks.judge",
    }
)

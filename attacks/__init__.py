"""Fool a model: image -> adversarial image.

``ATTACKS`` names every attack; the classes are importable from here. Goals: ``Untargeted``, ``Targeted``,
``LeastLikely``. ``evaluate`` is the one judge of what an attack returns.
"""

from typing import TYPE_CHECKING

from core.tables import Table

if TYPE_CHECKING:
    from attacks.apgd import APGD as APGD
    from attacks.base import Attack as Attack
    from attacks.base import BlackBox as BlackBox
    from attacks.base import Trace as Trace
    from attacks.decisions import BoundaryAttack as BoundaryAttack
    from attacks.decisions import HopSkipJump as HopSkipJump
    from attacks.deepfool import DeepFool as DeepFool
    from attacks.fab import FAB as FAB
    from attacks.fooling import CPPNFooling as CPPNFooling
    from attacks.fooling import GradientFooling as GradientFooling
    from attacks.goals import Goal as Goal
    from attacks.goals import LeastLikely as LeastLikely
    from attacks.goals import Targeted as Targeted
    from attacks.goals import Untargeted as Untargeted
    from attacks.gradient import BIM as BIM
    from attacks.gradient import FGSM as FGSM
    from attacks.gradient import PGD as PGD
    from attacks.judge import Outcome as Outcome
    from attacks.judge import evaluate as evaluate
    from attacks.minimal import ALMA as ALMA
    from attacks.minimal import DDN as DDN
    from attacks.minimal import FMN as FMN
    from attacks.minimal import SigmaZero as SigmaZero
    from attacks.momentum import DIFGSM as DIFGSM
    from attacks.momentum import MIFGSM as MIFGSM
    from attacks.momentum import NIFGSM as NIFGSM
    from attacks.momentum import SIFGSM as SIFGSM
    from attacks.momentum import TIFGSM as TIFGSM
    from attacks.momentum import VMIFGSM as VMIFGSM
    from attacks.noise import RandomNoise as RandomNoise
    from attacks.patch import AdversarialPatch as AdversarialPatch
    from attacks.penalty import EAD as EAD
    from attacks.penalty import LBFGS as LBFGS
    from attacks.penalty import CarliniWagner as CarliniWagner
    from attacks.scores import NES as NES
    from attacks.scores import SPSA as SPSA
    from attacks.scores import SimBA as SimBA
    from attacks.scores import Square as Square
    from attacks.several import AutoAttack as AutoAttack
    from attacks.several import WorstCase as WorstCase
    from attacks.sparse import JSMA as JSMA
    from attacks.sparse import OnePixel as OnePixel
    from attacks.spatial import SpatialAttack as SpatialAttack
    from attacks.universal import UniversalPerturbation as UniversalPerturbation

ATTACKS = Table(
    "attack",
    {
        "fgsm": "attacks.gradient:FGSM",
        "bim": "attacks.gradient:BIM",
        "pgd": "attacks.gradient:PGD",
        "apgd": "attacks.apgd:APGD",
        "mi-fgsm": "attacks.momentum:MIFGSM",
        "ni-fgsm": "attacks.momentum:NIFGSM",
        "di-fgsm": "attacks.momentum:DIFGSM",
        "ti-fgsm": "attacks.momentum:TIFGSM",
        "si-fgsm": "attacks.momentum:SIFGSM",
        "vmi-fgsm": "attacks.momentum:VMIFGSM",
        "deepfool": "attacks.deepfool:DeepFool",
        "carlini-wagner": "attacks.penalty:CarliniWagner",
        "ead": "attacks.penalty:EAD",
        "lbfgs": "attacks.penalty:LBFGS",
        "ddn": "attacks.minimal:DDN",
        "fmn": "attacks.minimal:FMN",
        "alma": "attacks.minimal:ALMA",
        "sigma-zero": "attacks.minimal:SigmaZero",
        "fab": "attacks.fab:FAB",
        "jsma": "attacks.sparse:JSMA",
        "one-pixel": "attacks.sparse:OnePixel",
        "spatial-attack": "attacks.spatial:SpatialAttack",
        "adversarial-patch": "attacks.patch:AdversarialPatch",
        "square": "attacks.scores:Square",
        "nes": "attacks.scores:NES",
        "spsa": "attacks.scores:SPSA",
        "simba": "attacks.scores:SimBA",
        "hop-skip-jump": "attacks.decisions:HopSkipJump",
        "boundary-attack": "attacks.decisions:BoundaryAttack",
        "universal-perturbation": "attacks.universal:UniversalPerturbation",
        "gradient-fooling": "attacks.fooling:GradientFooling",
        "cppn-fooling": "attacks.fooling:CPPNFooling",
        "random-noise": "attacks.noise:RandomNoise",
        "worst-case": "attacks.several:WorstCase",
        "auto-attack": "attacks.several:AutoAttack",
    },
)

__getattr__ = ATTACKS.exporter(
    {
        "Attack": "attacks.base",
        "BlackBox": "attacks.base",
        "Trace": "attacks.base",
        "Goal": "attacks.goals",
        "LeastLikely": "attacks.goals",
        "Targeted": "attacks.goals",
        "Untargeted": "attacks.goals",
        "Outcome": "attacks.judge",
        "evaluate": "attacks.judge",
    }
)

"""Fool a model: image -> adversarial image.

``ATTACKS`` names every attack; the classes are importable from here. Goals: ``Untargeted``, ``Targeted``,
``LeastLikely``. ``evaluate`` is the one judge of what an attack returns.
"""

from typing import TYPE_CHECKING

from core.tables import Table

if TYPE_CHECKING:
    from attacks.goals import Goal as Goal
    from attacks.goals import LeastLikely as LeastLikely
    from attacks.goals import Targeted as Targeted
    from attacks.goals import Untargeted as Untargeted
    from attacks.gradient import FGSM as FGSM
    from attacks.gradient import PGD as PGD
    from attacks.gradient import GradientFooling as GradientFooling
    from attacks.judge import Outcome as Outcome
    from attacks.judge import evaluate as evaluate
    from attacks.noise import RandomNoise as RandomNoise

ATTACKS = Table(
    "attack",
    {
        "fgsm": "attacks.gradient:FGSM",
        "pgd": "attacks.gradient:PGD",
        "gradient-fooling": "attacks.gradient:GradientFooling",
        "random-noise": "attacks.noise:RandomNoise",
    },
)

__getattr__ = ATTACKS.exporter(
    {
        "Goal": "attacks.goals",
        "LeastLikely": "attacks.goals",
        "Targeted": "attacks.goals",
        "Untargeted": "attacks.goals",
        "Outcome": "attacks.judge",
        "evaluate": "attacks.judge",
    }
)

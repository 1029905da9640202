"""Scores of heatmaps. ``METRICS`` names every one; the classes are importable from here."""

from typing import TYPE_CHECKING

from core.tables import Table

if TYPE_CHECKING:
    from explain.metrics.additivity import Completeness as Completeness
    from explain.metrics.additivity import Infidelity as Infidelity
    from explain.metrics.base import Metric as Metric
    from explain.metrics.complexity import Entropy as Entropy
    from explain.metrics.complexity import Gini as Gini
    from explain.metrics.faithfulness import Deletion as Deletion
    from explain.metrics.faithfulness import Insertion as Insertion
    from explain.metrics.faithfulness import SingleDeletion as SingleDeletion
    from explain.metrics.imputation import ROAD as ROAD
    from explain.metrics.localisation import GrabCutIoU as GrabCutIoU
    from explain.metrics.localisation import MassAccuracy as MassAccuracy
    from explain.metrics.localisation import PointingGame as PointingGame
    from explain.metrics.localisation import RankAccuracy as RankAccuracy
    from explain.metrics.parts import PartEffect as PartEffect
    from explain.metrics.parts import ShortcutMass as ShortcutMass
    from explain.metrics.sanity import Randomization as Randomization
    from explain.metrics.stability import SensitivityMax as SensitivityMax

METRICS = Table(
    "metric",
    {
        "deletion": "explain.metrics.faithfulness:Deletion",
        "insertion": "explain.metrics.faithfulness:Insertion",
        "single-deletion": "explain.metrics.faithfulness:SingleDeletion",
        "road": "explain.metrics.imputation:ROAD",
        "infidelity": "explain.metrics.additivity:Infidelity",
        "sensitivity-max": "explain.metrics.stability:SensitivityMax",
        "pointing-game": "explain.metrics.localisation:PointingGame",
        "mass-accuracy": "explain.metrics.localisation:MassAccuracy",
        "rank-accuracy": "explain.metrics.localisation:RankAccuracy",
        "grab-cut-iou": "explain.metrics.localisation:GrabCutIoU",
        "part-effect": "explain.metrics.parts:PartEffect",
        "shortcut-mass": "explain.metrics.parts:ShortcutMass",
        "gini": "explain.metrics.complexity:Gini",
        "entropy": "explain.metrics.complexity:Entropy",
        "randomization": "explain.metrics.sanity:Randomization",
        "completeness": "explain.metrics.additivity:Completeness",
    },
)

__getattr__ = METRICS.exporter({"Metric": "explain.metrics.base"})

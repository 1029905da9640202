"""Scores of heatmaps. ``METRICS`` names every one; the classes are importable from here."""

from typing import TYPE_CHECKING

from assay.core.tables import Table

if TYPE_CHECKING:
    from assay.explain.metrics.additivity import Completeness as Completeness
    from assay.explain.metrics.additivity import Infidelity as Infidelity
    from assay.explain.metrics.base import Metric as Metric
    from assay.explain.metrics.complexity import Entropy as Entropy
    from assay.explain.metrics.complexity import Gini as Gini
    from assay.explain.metrics.faithfulness import Deletion as Deletion
    from assay.explain.metrics.faithfulness import Insertion as Insertion
    from assay.explain.metrics.faithfulness import SingleDeletion as SingleDeletion
    from assay.explain.metrics.imputation import ROAD as ROAD
    from assay.explain.metrics.localisation import GrabCutIoU as GrabCutIoU
    from assay.explain.metrics.localisation import MassAccuracy as MassAccuracy
    from assay.explain.metrics.localisation import PointingGame as PointingGame
    from assay.explain.metrics.localisation import RankAccuracy as RankAccuracy
    from assay.explain.metrics.parts import PartEffect as PartEffect
    from assay.explain.metrics.parts import ShortcutMass as ShortcutMass
    from assay.explain.metrics.sanity import Randomization as Randomization
    from assay.explain.metrics.stability import SensitivityMax as SensitivityMax

METRICS = Table(
    "metric",
    {
        "deletion": "assay.explain.metrics.faithfulness:Deletion",
        "insertion": "assay.explain.metrics.faithfulness:Insertion",
        "single-deletion": "assay.explain.metrics.faithfulness:SingleDeletion",
        "road": "assay.explain.metrics.imputation:ROAD",
        "infidelity": "assay.explain.metrics.additivity:Infidelity",
        "sensitivity-max": "assay.explain.metrics.stability:SensitivityMax",
        "pointing-game": "assay.explain.metrics.localisation:PointingGame",
        "mass-accuracy": "assay.explain.metrics.localisation:MassAccuracy",
        "rank-accuracy": "assay.explain.metrics.localisation:RankAccuracy",
        "grab-cut-iou": "assay.explain.metrics.localisation:GrabCutIoU",
        "part-effect": "assay.explain.metrics.parts:PartEffect",
        "shortcut-mass": "assay.explain.metrics.parts:ShortcutMass",
        "gini": "assay.explain.metrics.complexity:Gini",
        "entropy": "assay.explain.metrics.complexity:Entropy",
        "randomization": "assay.explain.metrics.sanity:Randomization",
        "completeness": "assay.explain.metrics.additivity:Completeness",
    },
)

__getattr__ = METRICS.exporter({"Metric": "assay.explain.metrics.base"})

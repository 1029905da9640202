"""Scores of heatmaps. ``METRICS`` names every one; the classes are importable from here."""

from typing import TYPE_CHECKING

from core.tables import Table

if TYPE_CHECKING:
    from explain.metrics.base import Metric as Metric
    from explain.metrics.faithfulness import Deletion as Deletion
    from explain.metrics.faithfulness import Insertion as Insertion
    from explain.metrics.faithfulness import SingleDeletion as SingleDeletion
    from explain.metrics.localisation import MassAccuracy as MassAccuracy
    from explain.metrics.localisation import PointingGame as PointingGame
    from explain.metrics.localisation import RankAccuracy as RankAccuracy
    from explain.metrics.parts import PartEffect as PartEffect

METRICS = Table(
    "metric",
    {
        "deletion": "explain.metrics.faithfulness:Deletion",
        "insertion": "explain.metrics.faithfulness:Insertion",
        "single-deletion": "explain.metrics.faithfulness:SingleDeletion",
        "pointing-game": "explain.metrics.localisation:PointingGame",
        "mass-accuracy": "explain.metrics.localisation:MassAccuracy",
        "rank-accuracy": "explain.metrics.localisation:RankAccuracy",
        "part-effect": "explain.metrics.parts:PartEffect",
    },
)

__getattr__ = METRICS.exporter({"Metric": "explain.metrics.base"})

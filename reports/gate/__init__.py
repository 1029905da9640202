"""The gate: two runs compared, each of them a run or a baseline that was made of one.

- ``load``: what a check needs of a run (``distil``, ``art``, ``proofs``); ``baseline`` keeps it small enough to commit
- ``tolerances``: how far metrics and pictures may move, from TOML
- ``compare``: a ``Verdict`` of ``Change``s (``planned``, ``values``, ``likeness``)
- ``output``: check.json, JUnit XML, a Markdown summary and a page
"""

from assay.reports.gate.change import Change, Verdict
from assay.reports.gate.compare import compare
from assay.reports.gate.distil import Distilled, load

__all__ = ["Change", "Distilled", "Verdict", "compare", "load"]

"""Stored results -> tables, figures and a page. Reads only what is on disk and never loads torch.

- ``load``: a run (``run.reader``); ``tables``: its pandas tables; ``write``: RUN/tables/*.csv and RUN/report/
- ``run``: what a run is and what follows from its rows alone; ``drawing``: figures; ``kinds``: all that is special to a
  kind of measurement, one file each; ``site``: the pages; ``gate``: two runs compared; ``export``, ``paper``: files
"""

from assay.reports.run.reader import Run, load
from assay.reports.run.result_tables import tables
from assay.reports.site.pages import write

__all__ = ["Run", "load", "tables", "write"]

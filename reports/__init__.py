"""Stored run -> tables, figures and a page. Reads only what is on disk and never loads torch.

- ``load``: a run's rows, failures and facts (``stored``)
- ``tables``: the pandas tables (``frames``, ``ranking``, ``curves``, ``transfer``, ``checks``; attacks
  in ``facts``, uncertainty in ``intervals``)
- ``write``: RUN/tables/*.csv and the pages of RUN/report/ (``site``; words in ``findings``, ``attacked`` and ``words``;
  plots in ``figures``, ``radii``, ``highlights``, ``transfer``, ``queries``, ``landscape``, ``quality`` and others;
  images in ``pictures``, colours in ``look``)
- ``names``: methods, models and data sets in few words
"""

from assay.reports.run.tables import tables
from assay.reports.site.pages import write
from assay.reports.run.reader import Run, load

__all__ = ["Run", "load", "tables", "write"]

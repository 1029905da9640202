"""The report as a small site: one folder that opens from disk.

- ``pages``: which pages there are, and ``write``
- ``models``, ``methods``, ``datasets``: what stands on the pages of each; ``grids``: their tables; ``notes``: glossary,
  provenance, costs
- ``gathered``: what all of them are made of; ``files``: which page is whose
- ``plots``: every figure, and how they are drawn
"""

"""The report as a small site: one folder that opens from disk. What stands on its pages is the kinds' matter.

- ``pages``: which pages there are, and ``write``; ``models``, ``methods``, ``datasets``: the pages of each
- ``front``: the first page; ``notes``: provenance and facts as text
- ``files``: which page is whose; ``plots``: every figure, and how they are drawn
"""

"""Commands of ``assay``, one file each, imported when they are called.

A command returns its exit status, or yields the lines to tell.
"""

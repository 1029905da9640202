"""Commands of ``assay``, one file each, imported when they are called.

A command returns its exit status, or yields the lines to tell.
"""

from typing import Annotated

from cyclopts import Parameter

Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
ModelSpec = Annotated[str, Parameter(help="A model spec.")]
PictureSpec = Annotated[str, Parameter(help="A picture file, or DATA#NUMBER such as scenes#3.")]

"""A photograph in the style of a picture."""

from assay.reports.drawing.reconstruction import Words, reconstruction
from assay.reports.kinds.base import metric

KIND = reconstruction(
    "style",
    Words(
        "a photograph in a style",
        "Left the photograph and the style, then the photograph painted with more and more steps; the loss is that of "
        "the style.",
        "photograph",
        "style_loss",
        "style loss {:.3g}",
    ),
    heading="Styles",
    metrics={
        "content_loss": metric("lower", "share", "distance of a painted picture's code to the photograph's"),
        "style_loss": metric("lower", "share", "distance of a painted picture's Gram matrices to the style's"),
    },
)

"""More of a texture, made of a sample."""

from assay.reports.drawing.reconstruction import Words, reconstruction, section, without_model
from assay.reports.kinds.base import metric

WORDS = Words(
    "more of a texture",
    "Left the sample, then a texture of twice its sides. What is copied verbatim is the side of a square.",
    "sample",
    "texture_copy",
    "copies of {:.1f} pixels",
)

KIND = reconstruction(
    "texture",
    WORDS,
    heading="Textures",
    metrics={
        "texture_distance": metric(
            "lower", "share", "distance of a texture's Gram matrices to the sample's, mean over other models"
        ),
        "texture_copy": metric(
            "lower", "pixels", "side of the largest verbatim copy of the sample around a pixel of a texture"
        ),
        "texture_seams": metric("lower", "share", "gradient energy of a texture that no patch of the sample explains"),
    },
    sections=(section(without_model("texture", WORDS)),),
)

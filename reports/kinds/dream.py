"""Images that show more and more of what a layer sees in them."""

from assay.reports.drawing.reconstruction import Words, reconstruction
from assay.reports.kinds.base import metric

KIND = reconstruction(
    "dream",
    Words(
        "what it dreams of an image",
        "Left the image, then the same with more and more of what the layer sees in it; the number is how much larger "
        "its activations became at full size.",
        "image",
        "dream_growth",
        "{:.1f} x",
    ),
    heading="Dreams",
    metrics={
        "dream_growth": metric(
            "none", "ratio", "how much larger the objective of a dream became within its last octave"
        ),
        "dream_clipped": metric("lower", "share", "share of a dream's values that are black or white"),
    },
)

"""Images made again from the activations of a layer."""

from assay.reports.context import Context
from assay.reports.drawing.reconstruction import Words, by_depth, reconstruction, section
from assay.reports.drawing.theme import Plot
from assay.reports.kinds.base import metric

CURVES = (("inversion_error", "Distance of the codes"), ("inversion_ssim", "SSIM with the image"))


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """The curves of all models on one data set; none where nothing was inverted at several layers."""
    cells = [each for each in context.art("inversion", data) if len(each.layers) > 1]
    return [by_depth(context, cells, CURVES, f"{prefix}-inversion")] if cells else []


KIND = reconstruction(
    "inversion",
    Words(
        "what its layers keep of an image",
        "Left the image, then a picture that the layer answers alike: what is gone or changed, the layer does not "
        "tell. SSIM is the likeness to the image, the mean over the images.",
        "image",
        "inversion_ssim",
        "SSIM {:.2f}",
    ),
    heading="Inversions",
    metrics={
        "inversion_error": metric(
            "lower", "share", "distance of the codes of the picture made from a layer's code, over its size"
        ),
        "inversion_psnr": metric("higher", "dB", "peak signal to noise ratio of the picture made from a layer's code"),
        "inversion_ssim": metric("higher", "SSIM", "structural similarity of the picture made from a layer's code"),
        "inversion_class": metric(
            "higher", "share", "share of pictures made from a layer's code that keep the predicted class"
        ),
    },
    sections=(section(figures),),
)

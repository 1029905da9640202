"""``assay synthesize invert``."""

from collections.abc import Iterator
from dataclasses import replace

from assay.bench.commands import ModelSpec, PictureSpec, Words
from assay.bench.commands.synthesize.files import FILES, Files, method_of
from assay.bench.layer_views import depths, plain
from assay.bench.measurements.inversion import inversion_scores
from assay.bench.models import load
from assay.bench.one_image import read_picture
from assay.bench.progress import StepProgress
from assay.core.errors import AssayError
from assay.synthesis.invert import Invert


def invert(
    model: ModelSpec, picture: PictureSpec, layers: Words = (), /, *, method: str = "invert", files: Files = FILES
) -> Iterator[str]:
    """Draw what LAYERS of MODEL have kept of PICTURE.

    Parameters
    ----------
    layers
        Names from assay layers MODEL; five from first to last unless given.
    method
        With settings, as in "invert(tv=0.1, steps=400)".
    """
    subject = load(model)
    image, _, name = read_picture(picture, subject)
    base = method_of(method, Invert)
    names = layers or ([base.layer] if base.layer else depths(subject, image))
    if not names:
        raise AssayError(f"{subject.name} has no layers with a grid; all it can be asked for is the layer input")
    for layer in dict.fromkeys(map(plain, names)):
        record = replace(base, layer=layer)
        with StepProgress(layer) as progress:
            art = record(subject, image, files.draws(subject, record, [name]), callback=progress.step)
        scores = inversion_scores(subject, image, layer, art.images)
        values = {metric: value.tolist() for metric, value in scores.items()}
        yield from files.save([f"inverted-{layer}"], art, values, model=subject, method=record, picture=picture)

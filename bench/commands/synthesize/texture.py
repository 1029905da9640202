"""``assay synthesize texture``."""

from collections.abc import Iterator
from pathlib import Path

from assay.bench.commands import Words
from assay.bench.commands.synthesize.files import FILES, Files, method_of, read_large
from assay.bench.models import load
from assay.bench.progress import StepProgress
from assay.core.errors import AssayError
from assay.synthesis import SYNTHESES
from assay.synthesis.base import FromSample
from assay.synthesis.gram import TextureSynthesis
from assay.synthesis.scores_texture import copy_length, seam_energy

MOST_PAIRS = 150_000_000  # of pixels of texture and sample, beyond which seams are not scored: a minute


def texture(
    samples: Words,
    /,
    *,
    method: str = "image-quilting",
    model: str | None = None,
    size: tuple[int, int] | None = None,
    files: Files = FILES,
) -> Iterator[str]:
    """Make more of the texture in each of SAMPLES, picture files or DATA#NUMBER.

    Parameters
    ----------
    samples
        Files, or DATA#NUMBER.
    method
        image-quilting, efros-leung or wei-levoy; or texture-synthesis by a --model's Gram matrices. With settings, as
        in "image-quilting(block=32)".
    model
        A model spec, for texture-synthesis.
    size
        Height and width; twice the sample's unless given.
    """
    record = method_of(method, FromSample, TextureSynthesis, size=size)
    if (record.takes == "images") != (model is not None):
        raise AssayError(f"{SYNTHESES.name_of(record)} {'needs --model' if model is None else 'takes no --model'}")
    subject = load(model) if model is not None else None
    for source in samples:
        image, name = read_large(source, subject)
        draws = files.draws(subject, record, [name])
        with StepProgress(name) as progress:
            art = record(subject, image, draws, callback=progress.step) if subject else record(image, draws)
        scores = {"copy_length": copy_length(art.images, image).tolist()}
        pairs = art.images[0, 0].numel() * image[0, 0].numel()  # each of them is compared
        if min(*image.shape[2:], *art.images.shape[2:]) >= 8 and pairs <= MOST_PAIRS:
            scores["seam_energy"] = seam_energy(art.images, image).tolist()
        stem = Path(source).stem.replace("#", "-")
        yield from files.save([f"texture-{stem}"], art, scores, model=subject, method=record, sample=source)

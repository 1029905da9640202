"""``assay synthesize dream``."""

from collections.abc import Iterator

from assay.bench.commands import ModelSpec, PictureSpec
from assay.bench.commands.synthesize.files import FILES, Files, method_of, read_large
from assay.bench.measurements.dream import dream_scores
from assay.bench.models import load
from assay.bench.progress import StepProgress
from assay.synthesis.deep_dream import DeepDream


def dream(
    model: ModelSpec,
    picture: PictureSpec,
    /,
    *,
    method: str = "deep-dream",
    guide: str | None = None,
    longest: int | None = None,
    files: Files = FILES,
) -> Iterator[str]:
    """Let MODEL dream about PICTURE, of any size.

    Parameters
    ----------
    method
        With settings, as in "deep-dream(layer=layer3, octaves=5, tile=512)".
    guide
        A second picture whose contents to see in the first.
    longest
        The picture's longer side in pixels, its own unless given.
    """
    subject = load(model)
    record = method_of(method, DeepDream)
    image, name = read_large(picture, subject, longest)
    guides = {"guide": read_large(guide, subject)[0]} if guide else {}
    with StepProgress("dream") as progress:
        art = record(subject, image, files.draws(subject, record, [name]), callback=progress.step, **guides)
    scores = {metric: values.tolist() for metric, values in dream_scores(art, record.steps).items()}
    yield from files.save(["dream"], art, scores, model=subject, method=record, picture=picture, guide=guide)

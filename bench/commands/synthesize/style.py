"""``assay synthesize style``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.bench.commands import PictureSpec, Words
from assay.bench.commands.synthesize.files import FILES, Files, method_of, read_large
from assay.bench.models import load
from assay.bench.progress import StepProgress
from assay.core.errors import AssayError, unknown
from assay.synthesis.fast import FastStyle
from assay.synthesis.fast import load as load_network
from assay.synthesis.style_transfer import StyleTransfer


def style(
    content: PictureSpec,
    styles: Words = (),
    /,
    *,
    model: str | None = None,
    method: str | None = None,
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (),
    network: Path | None = None,
    longest: int | None = None,
    files: Files = FILES,
) -> Iterator[str]:
    """Paint CONTENT in the style of STYLES, picture files.

    Parameters
    ----------
    styles
        Files or DATA#NUMBER; several are blended. With --network, names of the styles that it knows.
    model
        A model spec; zoo:repvgg unless given.
    method
        With settings, as in "style-transfer(style_weight=10, colours=content)"; style-transfer unless given.
    weights
        Of the styles, equal unless given.
    network
        A network from assay train style, which paints in one forward pass, without --model and --method.
    longest
        The content's longer side in pixels, its own unless given.
    """
    if network is not None:
        if model is not None or method is not None:
            raise AssayError("--network paints by itself: leave out --model and --method, or --network")
        yield from _by_network(content, styles, weights, network, longest, files)
        return
    if not styles:
        raise AssayError("in which style? give one or more pictures after the content")
    if weights and len(weights) != len(styles):
        raise AssayError(f"{len(weights)} weights for {len(styles)} styles")
    record = method_of(method or "style-transfer", StyleTransfer)
    subject = load(model or "zoo:repvgg")
    image, name = read_large(content, subject, longest)
    pictures = [read_large(source, subject)[0] for source in styles]
    blend = weights or None
    with StepProgress("style") as progress:
        draws = files.draws(subject, record, [name])
        art = record(subject, image, pictures, draws, weights=blend, callback=progress.step)
    losses = record.losses(subject, art.images, image, pictures, weights=blend)
    scores = {"content_loss": losses.content.tolist(), "style_loss": losses.style.tolist()}
    facts = {"content": content, "styles": list(styles), "weights": list(weights) or None}
    yield from files.save(["style"], art, scores, model=subject, method=record, **facts)


def _by_network(
    content: str, styles: Sequence[str], weights: Sequence[float], network: Path, longest: int | None, files: Files
) -> Iterator[str]:
    """Paint by one forward pass; ``styles`` are names that the network knows, all of them unless given."""
    net = load_network(network)
    for name in styles:
        if name not in net.styles:
            raise unknown("style", name, net.styles)
    if weights and len(weights) != len(styles or net.styles):
        raise AssayError(f"{len(weights)} weights for the styles {', '.join(styles or net.styles)}")
    if len(set(styles)) != len(styles):
        raise AssayError(f"a style is named twice: {' '.join(styles)}")
    shares = dict(zip(styles or net.styles, weights or (1.0,) * len(styles or net.styles), strict=True))
    record = FastStyle(blend=tuple(shares.get(name, 0.0) for name in net.styles))
    image, _ = read_large(content, None, longest)
    art = record(net, image if image.shape[1] == 3 else image.expand(-1, 3, -1, -1), files.seed)
    yield from files.save(["style"], art, {}, network=str(network), method=record, content=content, styles=shares)

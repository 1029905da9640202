"""``assay synthesize``: class pictures, inversions, dreams, textures and styles as files.

Nothing here imports torch until a command runs; ``assay.bench.studio`` does the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="synthesize", help="Make pictures: visualize, invert, dream, texture, style.")
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Files:
    """Where pictures go.

    Parameters
    ----------
    out
        The folder for PNG files; beside each a JSON file with its settings, scores and history.
    seed
        Of the method's random numbers.
    """

    out: Path = Path("synthesize")
    seed: int = 0


FILES = Files()


@app.command
def visualize(
    model: str,
    what: Words = (),
    /,
    *,
    method: str = "visualize",
    depths: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
    start: str | None = None,
    facets: int = 0,
    like: str | None = None,
    generator: str | None = None,
    files: Files = FILES,
) -> int:
    """Draw what MODEL sees in WHAT: classes, LAYER, LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN.

    The first ten classes unless WHAT or --depths says else.

    Parameters
    ----------
    model
        A model spec.
    what
        Classes by index or name; layers, channels and neurons by the layer's name in assay layers MODEL.
    method
        With settings, as in "visualize(parametrisation=maco, steps=512)".
    depths
        As many channels at each of four depths, and classes, on one sheet.
    count
        Pictures of each, from different random numbers.
    size
        Height and width, the model's own unless given; of a larger picture it sees windows.
    start
        A picture to start from, a file or DATA#NUMBER.
    facets
        Start from the means of as many clusters of a class's images in the data of --like.
    like
        Data whose colours and spectrum fourier and maco keep: scenes, folder:PATH.
    generator
        For latent: scenes, or py:MODULE:FUNCTION.
    """
    from assay.bench import studio

    return _tell(
        studio.visualize(
            model, what, method=method, depths=depths, count=count, size=size, start=start, facets=facets, like=like,
            generator=generator, out=files.out, seed=files.seed,
        )
    )  # fmt: skip


@app.command
def invert(model: str, picture: str, layers: Words = (), /, *, method: str = "invert", files: Files = FILES) -> int:
    """Draw what LAYERS of MODEL have kept of PICTURE.

    Parameters
    ----------
    model
        A model spec.
    picture
        A file, or DATA#NUMBER.
    layers
        Names from assay layers MODEL; five from first to last unless given.
    method
        With settings, as in "invert(tv=0.1, steps=400)".
    """
    from assay.bench import studio

    return _tell(studio.invert(model, picture, layers, method=method, out=files.out, seed=files.seed))


@app.command
def dream(
    model: str,
    picture: str,
    /,
    *,
    method: str = "deep-dream",
    guide: str | None = None,
    longest: int | None = None,
    files: Files = FILES,
) -> int:
    """Let MODEL dream about PICTURE, of any size.

    Parameters
    ----------
    model
        A model spec.
    picture
        A file, or DATA#NUMBER.
    method
        With settings, as in "deep-dream(layer=layer3, octaves=5, tile=512)".
    guide
        A second picture whose contents to see in the first.
    longest
        The picture's longer side in pixels, its own unless given.
    """
    from assay.bench import studio

    return _tell(
        studio.dream(model, picture, method=method, guide=guide, longest=longest, out=files.out, seed=files.seed)
    )


@app.command
def texture(
    samples: Words,
    /,
    *,
    method: str = "image-quilting",
    model: str | None = None,
    size: tuple[int, int] | None = None,
    files: Files = FILES,
) -> int:
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
    from assay.bench import studio

    return _tell(studio.texture(samples, method=method, model=model, size=size, out=files.out, seed=files.seed))


@app.command
def style(
    content: str,
    styles: Words = (),
    /,
    *,
    model: str | None = None,
    method: str | None = None,
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (),
    network: Path | None = None,
    longest: int | None = None,
    files: Files = FILES,
) -> int:
    """Paint CONTENT in the style of STYLES, picture files.

    Parameters
    ----------
    content
        A file, or DATA#NUMBER.
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
    from assay.bench import studio

    return _tell(
        studio.style(
            content, styles, model=model, method=method, weights=weights, network=network, longest=longest,
            out=files.out, seed=files.seed,
        )
    )  # fmt: skip


def _tell(lines: Iterator[str]) -> int:
    for line in lines:
        print(line, flush=True)
    return 0

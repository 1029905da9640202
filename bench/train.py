"""``assay train style``. Nothing here imports torch until the command runs."""

from pathlib import Path

from assay.core.errors import AssayError


def style(
    *pictures: Path,
    model: str = "zoo:resnet",
    content: Path | None = None,
    out: Path = Path("style.safetensors"),
    steps: int | None = None,
    seed: int = 0,
) -> int:
    """Train a network that paints in the styles of PICTURES in one pass; a stopped training goes on where it was.

    One network learns all of them, and mixes them. Its losses are StyleTransfer's.

    Parameters
    ----------
    pictures
        Picture files, a style each.
    model
        The spec of the model whose layers tell content and style.
    content
        A folder of photographs to paint; those that scikit-image and scikit-learn ship unless given.
    out
        The network's file; what it is goes into a .json beside it.
    steps
        Of two crops each.
    seed
        Of everything that is random.
    """
    from dataclasses import replace

    from assay.bench.cli import say
    from assay.bench.models import load
    from assay.bench.progress import Training
    from assay.bench.training_style import StyleRecipe, train

    recipe = replace(StyleRecipe(), seed=seed)
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    if not pictures:
        raise AssayError("which styles? assay train style PICTURE ...")
    with Training() as progress:
        card = train(pictures, out, load(model), content=content, recipe=recipe, progress=progress.batch)
    losses = ", ".join(f"{name} {value:.3g}" for name, value in card["loss"].items())
    say(f"{out}: {', '.join(card['styles'])}; losses of the last steps: {losses}")
    return 0

"""The ``assay`` command. Nothing here imports torch until a command needs it."""

import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from bench.provenance import version
from core.errors import AssayError, unknown

PRESETS = Path(__file__).parent / "presets"
KINDS = ("models", "data", "attacks", "explainers", "metrics", "syntheses", "presets")

app = App(
    name="assay",
    version=version,
    help="How easily is an image classifier fooled, and does it look where it should?",
    default_parameter=Parameter(negative=()),
)
Many = Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)]


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 all done, 1 some cells failed, 2 wrong usage, said in one line."""
    try:
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, AssayError) as error:
        print(f"assay: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.status if isinstance(error, AssayError) else 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


@app.command
def run(
    *,
    preset: str = "quick",
    config: Path | None = None,
    models: Many = None,
    data: Many = None,
    accuracy_data: Many = None,
    attacks: Many = None,
    explainers: Many = None,
    metrics: Many = None,
    syntheses: Many = None,
    limit: int | None = None,
    gallery: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    engine: str = "processes",
    jobs: int | None = None,
    batch_size: int = 50,
    device: str = "auto",
) -> int:
    """Measure models x data x methods, store every image's outcome, write tables and a report.

    The same command again goes on where it stopped. What is typed beats the config file, which beats the preset.

    Parameters
    ----------
    preset
        Named settings: quick, standard or full.
    config
        A TOML file with the same keys as the options from models to seed.
    models
        Specs: zoo:NAME, zoo:*, a timm name, ARCH=CHECKPOINT, py:MODULE:FUNCTION.
    data
        Specs: scenes, digits, folder:PATH, torchvision:NAME?root=PATH.
    accuracy_data
        Data on which only the clean accuracy is measured.
    attacks
        Names with settings, as in "pgd(eps=4/255, steps=100)"; goal=least_likely, random or a class index.
    explainers
        Names with settings, as in "grad-cam".
    metrics
        Scores of heatmaps.
    syntheses
        Names with settings, as in "visualize(steps=256)".
    limit
        Images per data set.
    gallery
        Images per model in the galleries.
    seed
        Of everything that is random.
    out
        The run's folder; runs/PRESET unless given.
    engine
        local (this process) or processes (one per core).
    jobs
        Processes at a time, or threads of the local engine; one per core unless given.
    batch_size
        Images per batch; does not change the outcomes.
    device
        cpu, cuda, or auto.
    """
    typed = {
        "models": models,
        "data": data,
        "accuracy_data": accuracy_data,
        "attacks": attacks,
        "explainers": explainers,
        "metrics": metrics,
        "syntheses": syntheses,
        "limit": limit,
        "gallery": gallery,
        "seed": seed,
    }
    given = {key: value for key, value in typed.items() if value is not None}
    settings = override(read_settings(preset, config), given)
    from bench.progress import Cells
    from bench.run import ENGINES, run
    from bench.settings import make_options, make_setup

    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    folder = out or Path("runs") / (config.stem if config else preset)
    planned, setup = make_options(settings), make_setup(batch_size, device)
    with Cells() as progress:
        result = run(planned, folder, engine=engine, jobs=jobs, setup=setup, preset=preset, report=progress.finished)
    say(f"{result.cells} cells, {result.stored} stored before, {result.skipped} skipped, {result.failed} failed")
    report(folder)
    return 1 if result.failed else 0


@app.command
def report(run: Path, /) -> int:
    """Write tables, figures and pages again from what RUN has stored."""
    import reports

    say(f"report: {reports.write(run)}")
    return 0


@app.command(name="list")
def list_(kind: str, /) -> int:
    """List what there is: models, data, attacks, explainers, metrics, syntheses or presets."""
    from bench.listing import rows

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    for name, about in rows(kind):
        say(f"{name:<22} {about}".rstrip())
    return 0


@app.command
def layers(model: str, /) -> int:
    """List the layers of MODEL with shape and grid, and mark the one that Grad-CAM uses."""
    from bench.listing import layer_rows

    for line in layer_rows(model):
        say(line)
    return 0


@app.command
def train(
    names: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    /,
    *,
    out: Path = Path("zoo"),
    cache: Path = Path(".cache/assay"),
    epochs: int | None = None,
    seed: int | None = None,
) -> int:
    """Train zoo models, all unless NAMES are given; a stopped training goes on after its last epoch.

    Parameters
    ----------
    out
        Where weights and cards go; bench/zoo in a checkout replaces the shipped ones.
    cache
        Where the drawn scenes are kept.
    epochs
        Instead of the recipe's.
    seed
        Instead of the recipe's.
    """
    from bench.progress import Training
    from bench.training import train
    from bench.zoo.recipes import RECIPES

    for name in names:
        if name not in RECIPES:
            raise unknown("zoo model", name, RECIPES)
    for name in names or RECIPES:
        with Training() as progress:
            card = train(name, out, cache=cache, epochs=epochs, seed=seed, progress=progress.batch)
        accuracy = ", ".join(f"{key} {value:.1%}" for key, value in card["accuracy"].items())
        say(f"{out / name}.safetensors: {accuracy}")
    return 0


@app.command
def attack(
    model: str,
    image: str,
    /,
    *,
    method: str = "pgd",
    label: str | None = None,
    out: Path = Path("attack"),
    seed: int = 0,
) -> int:
    """Attack MODEL on one IMAGE; writes original, adversarial and difference as PNG, and result.json.

    Parameters
    ----------
    model
        A model spec.
    image
        A picture file, or DATA#NUMBER such as scenes#3.
    method
        An attack with settings, as in "fgsm(eps=8/255, goal=least_likely)".
    label
        Class index or name; the data's label, else the prediction, unless given.
    out
        The folder for the files.
    seed
        Of the attack's random numbers.
    """
    from bench.single import attack_one

    for line in attack_one(model, image, method, label, out, seed):
        say(line)
    return 0


@app.command
def explain(
    model: str,
    image: str,
    /,
    *,
    method: str = "grad-cam",
    label: str | None = None,
    out: Path = Path("explain"),
    seed: int = 0,
) -> int:
    """Explain MODEL on one IMAGE; writes the heatmap as PNG, overlay and array, and result.json.

    Parameters
    ----------
    model
        A model spec.
    image
        A picture file, or DATA#NUMBER such as scenes#3.
    method
        An explainer with settings, as in "occlusion(stride=4)".
    label
        The class to explain, index or name; the prediction unless given.
    out
        The folder for the files.
    seed
        Of the method's random numbers.
    """
    from bench.single import explain_one

    for line in explain_one(model, image, method, label, out, seed):
        say(line)
    return 0


@app.command
def synthesize(
    model: str,
    /,
    *,
    method: str = "visualize",
    classes: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    out: Path = Path("synthesize"),
    seed: int = 0,
) -> int:
    """Draw what MODEL sees in its classes; writes one PNG per class and result.json.

    Parameters
    ----------
    model
        A model spec.
    method
        A synthesis with settings, as in "visualize(steps=512)".
    classes
        Class indices or names; the first ten unless given.
    out
        The folder for the files.
    seed
        Of the method's random numbers.
    """
    from bench.single import synthesize_classes

    for line in synthesize_classes(model, method, classes, out, seed):
        say(line)
    return 0


def read_settings(preset: str, config: Path | None) -> dict[str, Any]:
    """The preset's settings overridden by the config file's."""
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if preset not in names:
        raise unknown("preset", preset, names)
    settings = tomllib.loads((PRESETS / f"{preset}.toml").read_text(encoding="utf-8"))
    if config is not None:
        try:
            settings = override(settings, tomllib.loads(config.read_text(encoding="utf-8")))
        except OSError as error:
            raise AssayError(f"cannot read {config}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise AssayError(f"{config} is no TOML: {error}") from error
    return settings


def override(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given`` beats ``settings``; other ``data`` without ``accuracy_data`` means that there is none."""
    beside: dict[str, Any] = {"accuracy_data": []} if "data" in given else {}
    return {**settings, **beside, **given}


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()

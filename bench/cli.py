"""The ``assay`` command. Nothing here imports torch until a command needs it."""

import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from assay.bench.export import export
from assay.bench.gate import baseline, check
from assay.bench.inspect import Options, show
from assay.bench.provenance import version
from assay.bench.synthesize import app as synthesize
from assay.bench.train import style
from assay.core.errors import AssayError, unknown

PRESETS = Path(__file__).parent / "presets"
KINDS = ("models", "data", "attacks", "explainers", "metrics", "syntheses", "presets")

app = App(
    name="assay",
    version=version,
    help="How easily is an image classifier fooled, and does it look where it should?",
    default_parameter=Parameter(negative=()),
)
HOW = {"preset", "config", "out", "engine", "jobs", "batch_size", "device"}  # options of run that are no settings
app.command(synthesize)
app.command(check)
app.command(baseline)
app.command(export)
training = App(name="train")
training.command(style)
app.command(training)
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
    eps: Many = None,
    norms: Many = None,
    transfer: Many = None,
    explainers: Many = None,
    metrics: Many = None,
    deceived: Many = None,
    twins: Many = None,
    syntheses: Many = None,
    limit: int | None = None,
    craft: int | None = None,
    gallery: int | None = None,
    landscapes: int | None = None,
    deceive: int | None = None,
    learned: int | None = None,
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
        Specs: zoo:NAME, zoo:*, a timm name, ARCH=CHECKPOINT, py:MODULE:FUNCTION; SPEC+SPEC averages logits.
    data
        Specs: scenes, digits, folder:PATH, torchvision:NAME?root=PATH.
    accuracy_data
        Data on which only the clean accuracy is measured.
    attacks
        Names with settings, as in "pgd(eps=4/255, steps=100)"; goal=least_likely, random or a class index; a list as
        in "pgd(eps=[1/255, 2/255])" stands for one attack each.
    eps
        Radii of every attack that has one and does not give it, as in 1/255 2/255.
    norms
        Norms of every attack that knows them and does not give one: linf, l2, l1, l0.
    transfer
        Attacks whose images of one model every other model is shown.
    explainers
        Names with settings, as in "grad-cam".
    metrics
        Scores of heatmaps.
    deceived
        Explainers whose heatmaps are attacked.
    twins
        Two models: one that may have learned a shortcut, and its sound twin. Do the explainers show it?
    syntheses
        Names with settings, as in "visualize(steps=256)".
    limit
        Images per data set.
    craft
        Images beside those on which universal attacks craft.
    gallery
        Images per model in the galleries.
    landscapes
        Images per model whose surroundings are drawn.
    deceive
        Images per model whose heatmaps are attacked.
    learned
        Images on which it is measured what the models have learned; 0 leaves it out.
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
    given = {key: value for key, value in locals().items() if key not in HOW and value is not None}
    settings = override(read_settings(preset, config), given)
    from assay.bench.engine import ENGINES, run
    from assay.bench.progress import Cells
    from assay.bench.settings import make_options, make_setup

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
    from assay import reports

    say(f"report: {reports.write(run)}")
    return 0


@app.command(name="list")
def list_(kind: str, /) -> int:
    """List what there is: models, data, attacks, explainers, metrics, syntheses or presets."""
    from assay.bench.listing import rows

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    for name, about in rows(kind):
        say(f"{name:<22} {about}".rstrip())
    return 0


@app.command
def layers(model: str, /) -> int:
    """List the layers of MODEL with shape and grid, and mark the one that Grad-CAM uses."""
    from assay.bench.listing import layer_rows

    for line in layer_rows(model):
        say(line)
    return 0


@app.command
def families(
    names: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (), /, *, out: Path | None = None
) -> int:
    """Find the Grad-CAM layer of one small variant of every timm family, all unless NAMES are given.

    Parameters
    ----------
    out
        A Markdown file for the table, which is printed otherwise.
    """
    from assay.bench.families import rows, table

    facts = []
    for row in rows(names):
        facts.append(row)
        if out is not None:
            say(f"{row.family}: {row.layer} {row.grid} {row.order}")
    if out is None:
        say(table(facts))
    else:
        out.write_text(table(facts), encoding="utf-8")
    return 0


@training.default
def train(
    names: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    /,
    *,
    out: Path = Path("zoo"),
    cache: Path = Path(".cache/assay"),
    epochs: int | None = None,
    seed: int | None = None,
    adversary: str | None = None,
    trades: float | None = None,
    name: str | None = None,
) -> int:
    """Train zoo models, all unless NAMES are given; a stopped training goes on after its last epoch.

    With --adversary or --trades the recipe of one model is trained against attacks, as a model of another name. The
    name "generator" trains what draws scenes from latent codes, to generators/scenes.safetensors.

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
    adversary
        The attack that makes the training images: "pgd(eps=4/255, steps=7)", "fgsm(random_start=True)".
    trades
        Beta of TRADES: accuracy on clean images and beta times the KL divergence that the adversary can cause.
    name
        Of the model trained with --adversary or --trades; NAME-adversarial unless given.
    """
    from assay.bench.progress import Training
    from assay.bench.training import known, train, variant
    from assay.bench.zoo.recipes import RECIPES

    if epochs is not None and epochs < 1:
        raise AssayError(f"--epochs {epochs} must be 1 or more")
    if names == ("generator",) and (adversary, trades, name) == (None, None, None):
        from assay.bench.training_generator import train as train_generator

        with Training() as progress:
            card = train_generator(out / "generators", cache=cache, epochs=epochs, seed=seed, progress=progress.batch)
        shares = ", ".join(f"{judge} {share:.1%}" for judge, share in card["kept"].items())
        say(f"{out / 'generators' / 'scenes'}.safetensors: class of redrawn scenes kept for {shares}")
        return 0
    recipes = {each: known(each) for each in names or RECIPES}
    if adversary is not None or trades is not None:
        if len(names) != 1:
            raise AssayError("--adversary and --trades train one model; name it: assay train repvgg --adversary pgd")
        recipes = dict([variant(names[0], out, adversary=adversary, trades=trades, epochs=epochs, called=name)])
    elif name is not None:
        raise AssayError("--name is for a model trained with --adversary or --trades")
    for each, recipe in recipes.items():
        with Training() as progress:
            card = train(each, out, cache=cache, recipe=recipe, epochs=epochs, seed=seed, progress=progress.batch)
        accuracy = {key: f"{value:.1%}" for key, value in card["accuracy"].items()}
        kept = [row for row in card.get("history", ()) if row["kept"]]
        if kept:
            accuracy["validation under PGD"] = f"{kept[-1]['robust']:.1%} after epoch {kept[-1]['epoch']}"
        say(f"{out / each}.safetensors: {', '.join(f'{key} {value}' for key, value in accuracy.items())}")
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
    from assay.bench.single import attack_one

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
    from assay.bench.single import explain_one

    for line in explain_one(model, image, method, label, out, seed):
        say(line)
    return 0


@app.command
def inspect(model: str, /, *what: str, options: Annotated[Options | None, Parameter(name="*")] = None) -> int:
    """Show what MODEL has learned: any of filters, activations, patches, receptive-field, codes, units.

    For the activations a picture may stand among WHAT, a file or DATA#NUMBER. Writes PNG and CSV.
    """
    for line in show(model, what, options or Options()):
        say(line)
    return 0


def read_settings(preset: str | None, config: Path | None) -> dict[str, Any]:
    """The preset's settings, none without one, overridden by the config file's."""
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if preset is not None and preset not in names:
        raise unknown("preset", preset, names)
    settings = {} if preset is None else tomllib.loads((PRESETS / f"{preset}.toml").read_text(encoding="utf-8"))
    if config is not None:
        try:
            settings = override(settings, tomllib.loads(config.read_text(encoding="utf-8")))
        except OSError as error:
            raise AssayError(f"cannot read {config}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise AssayError(f"{config} is no TOML: {error}") from error
    return settings


def override(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given`` beats ``settings``; what a preset adds to its models, data and explainers goes with them."""
    beside = {"accuracy_data": ("data",), "twins": ("data", "models"), "deceived": ("explainers",)}
    gone: dict[str, Any] = {key: [] for key, others in beside.items() if any(other in given for other in others)}
    return {**settings, **gone, **given}


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()

"""The ``assay`` command. What a command needs is imported when it is called."""

import io
import os
import sys
from collections.abc import Iterator, Sequence

from cyclopts import App, CycloptsError, Parameter

from assay.bench.runs.provenance import version
from assay.core.errors import AssayError, brief
from assay.core.text import line, visible

COMMANDS = {  # name: where it is, and what stands beside it in the help
    "run": ("run:run", "Measure models x data x methods, store every image's outcome, write tables and a report."),
    "report": ("report:report", "Write tables, figures and pages again from what RUN has stored."),
    "check": ("check:check", "Compare RUN with an earlier run or a baseline: exit 1 where something got worse."),
    "baseline": ("check:baseline", "Keep of RUN only what assay check needs, small enough to be committed."),
    "export": ("export:export", "Write tables and figures of RUN for papers and other programs."),
    "list": ("list:list_", "List what there is: models, data, attacks, explainers, metrics, syntheses or presets."),
    "layers": ("layers:layers", "List the layers of MODEL with shape and grid, and mark the one that Grad-CAM uses."),
    "inspect": ("inspect:inspect", "Show what MODEL has learned, as pictures and tables."),
    "families": ("families:families", "Find the Grad-CAM layer of one small variant of every timm family."),
    "attack": ("attack:attack", "Attack MODEL on one IMAGE."),
    "explain": ("explain:explain", "Explain MODEL on one IMAGE."),
    "synthesize": ("synthesize:app", "Make pictures: visualize, invert, dream, texture, style."),
    "train": ("train:app", "Train zoo models, a generator, or a network that paints in styles."),
}

MOST_WORDS = 2000  # in a command; the time to read them grows with their square

app = App(
    name="assay",
    version=version,
    help="How easily is an image classifier fooled, and does it look where it should?",
    default_parameter=Parameter(negative=()),
)
for _name, (_where, _help) in COMMANDS.items():
    app.command(f"assay.bench.commands.{_where}", name=_name, help=_help)


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 all done, 1 some cells failed, 2 wrong usage, said in one line."""
    tokens = sys.argv[1:] if tokens is None else tokens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack letters of names
    try:
        if words := [word for word in tokens if "\0" in word]:
            raise AssayError(f"{brief(words[0])} holds a NUL, which no name does")
        if len(tokens) > MOST_WORDS:
            raise AssayError(
                f"{len(tokens)} words are too many; {MOST_WORDS} at most: a file (--config) takes long lists"
            )
        _describe(tokens)
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        if isinstance(status, Iterator):
            for told in status:
                print(*map(visible, told.split("\n")), sep="\n", flush=True)
    except (CycloptsError, AssayError) as error:
        print(f"assay: {line(error)}", file=sys.stderr)
        sys.exit(error.status if isinstance(error, AssayError) else 2)
    except MemoryError:
        print("assay: too large for the memory of this machine", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _describe(tokens: Sequence[str]) -> None:
    """Give the command that is called its whole docstring for ``--help``, where the list has the line above."""
    command = app
    for name in tokens:
        if name.startswith("-") or name not in command:
            return
        command = command[name]
        if command.default_command is not None:
            command.help = None

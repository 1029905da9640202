"""The help of commands: a line in the list before they are loaded, then all that their functions say."""

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from cyclopts import App

from assay.bench.cli import COMMANDS, main
from assay.bench.commands import synthesize

HELP = {
    **COMMANDS,
    **{f"synthesize {name}": (f"synthesize.{name}:{name}", text) for name, text in synthesize.COMMANDS.items()},
}


def docstring(place: str) -> str:
    """What the function, or a group of commands, says of itself."""
    module, _, name = place.partition(":")
    command: Any = getattr(import_module(f"assay.bench.commands.{module}"), name)
    if isinstance(command, App):
        command = command.default_command or command
    return command.help if isinstance(command, App) else inspect.getdoc(command) or ""


@pytest.mark.parametrize("name", HELP)
def test_the_line_of_a_command_begins_what_it_says_of_itself(name: str) -> None:
    place, text = HELP[name]
    assert text.endswith(".")
    assert " ".join(docstring(place).split()).startswith(text.removesuffix("."))


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("check", "index.html, with old, new and difference side by side"),
        ("train", "a stopped training goes on after its last epoch"),
        ("synthesize", "Make more of the texture in each of SAMPLES"),
        ("synthesize texture", "picture files or DATA#NUMBER"),
    ],
)
def test_help_says_all(name: str, detail: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    page = capsys.readouterr().out.replace("│", " ")
    assert detail in " ".join(page.split())


def test_the_list_of_commands_loads_no_torch() -> None:
    code = """
import sys
from assay.bench.cli import main
try:
    main(["--help"])
finally:
    print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *page, torch = result.stdout.splitlines()
    assert torch == "False"
    assert all(any(f" {name} " in line for line in page) for name in COMMANDS)

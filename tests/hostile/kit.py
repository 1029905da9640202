r"""A table of hostile inputs, and what makes and tries them.

A row says what lies in an empty folder, which command runs there, and how that must end::

    CASES = (
        Hostile("no-json", ["layers", "test_resnet=w.pth"], r"w\.json is no JSON", lambda: write("w.json", b"{")),
        Hostile("five-bad", [*RUN, "--data", "folder:pictures"], r"5 failed", pictures_cut, status=1),
    )

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_hostile(case: Hostile) -> None:
        case.check()

``check`` runs the command in this process, in the working folder, which ``conftest`` makes an empty one for each test,
and asserts the status, that nothing but ``SystemExit`` came out, that it took less than ``SECONDS``, and its last line;
of a wrong wish (status 2) that this is the only line on standard error and begins with "assay: ". Figures are not
drawn. For fuzzers ``status`` may be several, and ``line`` left empty: any one line.
"""

import contextlib
import io
import random
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from assay.bench.cli import main

SECONDS = 60.0  # far more than any takes, for the machine may be busy and what is imported new
MODEL = "py:tests.hostile.kit:grey"  # right on what ``pictures`` writes
FACTS: dict[str, Any] = {"input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}
NOTHING = ["--explainers", "--metrics", "--syntheses", "--gallery", "0", "--landscapes", "0", "--learned", "0"]
NOTHING += ["--accuracy-data", "--transfer", "--attacked-explainers", "--shortcut-pair", "--engine", "local"]
RUN = ["run", *NOTHING, "--attacks", "fgsm", "--out", "run"]  # a run of a tenth of a second; name --models and --data


class Grey(nn.Module):
    """Right on plain grey pictures of level 40 * k for class k."""

    levels: Tensor

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.register_buffer("levels", torch.arange(classes) * 40 / 255)

    def forward(self, images: Tensor) -> Tensor:
        return -((images.mean((1, 2, 3))[:, None] - self.levels) ** 2) * 1000


def grey() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(), FACTS


class Hang(BaseException):
    """A command that took too long; nothing catches it."""


class Ending(NamedTuple):
    """How a command ended: exit status, and its lines on standard output and standard error that are not empty."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def last(self) -> str:
        """Of standard error where that tells of a wrong wish, else of standard output."""
        lines = self.out + self.err if self.status == 2 else self.err + self.out
        return lines[-1] if lines else ""


@dataclass(frozen=True)
class Hostile:
    """One input. ``name`` is the test's, ``tokens`` the command, ``line`` a regular expression found in the last line.

    ``make`` writes files into the working folder before the command runs.
    """

    name: str
    tokens: Sequence[str]
    line: str = ""
    make: Callable[[], object] | None = None
    status: int | tuple[int, ...] = 2

    def __str__(self) -> str:
        return self.name

    def check(self) -> Ending:
        """Try it; raises what is not ``SystemExit``, and ``AssertionError`` where it ends otherwise."""
        if self.make is not None:
            self.make()
        ending = command(*self.tokens)
        told = "\n".join([f"status {ending.status}", *ending.out, *ending.err])
        assert ending.status in (self.status if isinstance(self.status, tuple) else (self.status,)), told
        assert "Traceback" not in told
        assert re.search(self.line, ending.last), told
        if ending.status == 2:
            assert len(ending.err) == 1, told
            assert ending.err[0].startswith("assay: "), told
        return ending


def command(*tokens: str, seconds: float = SECONDS) -> Ending:
    """Run ``assay TOKENS`` in this process; raises ``Hang`` when it takes longer."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), within(seconds):
        try:
            main(list(tokens))
        except SystemExit as stop:
            status = stop.code
    assert isinstance(status, int), status
    return Ending(status, *([line for line in text.getvalue().splitlines() if line.strip()] for text in (out, err)))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``Hang`` in here after so long, where the system has such signals."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    if hasattr(signal, "setitimer"):
        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def write(path: str, content: bytes | str = b"") -> Path:
    """A file in the working folder, with its folders."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def pictures(root: str = "pictures", names: Sequence[str] = ("a", "b"), n: int = 2, suffix: str = ".png") -> Path:
    """A folder per name; folder k holds ``n`` plain grey pictures (8 x 8) of class k of ``Grey``."""
    for k, name in enumerate(names):
        folder = Path(root) / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", (8, 8), (40 * k,) * 3).save(folder / f"{i}{suffix}")
    return Path(root)


def broken(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` damaged copies, the same for a seed: bits flipped, pieces cut out, doubled or overwritten, cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(max(len(copy), 1))
            size = rng.choice((1, 4, 64))
            piece = copy[at : at + size]
            match rng.randrange(5):
                case 0 if copy:
                    copy[at] ^= 1 << rng.randrange(8)
                case 1:
                    del copy[at : at + size]
                case 2:
                    copy[at:at] = piece
                case 3:
                    copy[at : at + size] = rng.randbytes(len(piece))
                case _:
                    del copy[at + 1 :]
        yield bytes(copy)

"""Progress: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from assay.core.text import visible

if TYPE_CHECKING:
    from assay.bench.runs.engine import Finished


class _Bar:
    """A rich progress bar that is only there on a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, text: str, count: float, total: float) -> None:
        if self._task is None:
            self._task = self._bar.add_task(text, total=total)
        self._bar.update(self._task, description=text, completed=count, total=total)

    def line(self, text: str) -> None:
        self.console.print(visible(text), markup=False, soft_wrap=True)


class CellProgress(_Bar):
    """Progress over the cells of a run."""

    def cell(self, result: "Finished", count: int, total: int) -> None:
        """Called after each cell; stored ones make no line, failed ones always do."""
        cell = result.cell
        name = " ".join(filter(None, (cell.model, cell.data, cell.kind, cell.method.text)))
        self.show(name if len(name) < 60 else name[:57] + "...", count, total)
        plain = not self.console.is_terminal and result.state != "stored"
        if plain or result.state in ("failed", "skipped"):
            reason = f": {result.reason}" if result.reason else ""
            self.line(f"[{count:>{len(str(total))}}/{total}] {result.state:<7} {result.seconds:6.1f} s  {name}{reason}")


class TrainingProgress(_Bar):
    """Progress over the epochs of one training."""

    def __init__(self) -> None:
        super().__init__()
        self._since = time.perf_counter()

    def batch(self, name: str, epoch: int, epochs: int, share: float, loss: float) -> None:
        """Called after each batch; elsewhere than on a terminal one line an epoch."""
        self.show(f"{name} loss {loss:.3f}", round(epoch + share, 2), epochs)
        if share == 1 and not self.console.is_terminal:
            seconds = time.perf_counter() - self._since
            self.line(f"{name} epoch {epoch + 1}/{epochs} loss {loss:.3f} {seconds:.0f} s")


class StepProgress(_Bar):
    """Progress over the steps of one picture; nothing elsewhere than on a terminal."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def step(self, count: int, total: int, value: Tensor) -> None:
        """Called after each step."""
        self.show(self._title, count, total)

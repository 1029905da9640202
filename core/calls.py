"""What stands between a forward pass and torch's functions, without hooks and without a change to the model."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Calls(TorchFunctionMode):
    """While it is entered, ``answer`` gives what each call of a torch function or tensor method returns."""

    @abstractmethod
    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of ``func(*args, **kwargs)``, or of what takes its place; ``kwargs`` may be changed."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.answer(func, args, dict(kwargs or {}))

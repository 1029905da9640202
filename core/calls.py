"""What stands between a forward pass and torch's functions, without hooks and without a change to the model."""

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode


class Calls(TorchFunctionMode):
    """While it is entered, ``answer`` gives what each call of a torch function or tensor method returns.

    Compiled models run as they were written. What the calls save for the backward pass is kept, whatever hooks there
    are: gradient checkpointing would call the functions again when the mode has been left.
    """

    @abstractmethod
    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of ``func(*args, **kwargs)``, or of what takes its place; ``kwargs`` may be changed."""

    def __enter__(self) -> Self:
        self._eager = eager()
        self._eager.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._eager.__exit__(*error)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        with saved_tensors_hooks(_with_version, _unchanged):
            return self.answer(func, args, dict(kwargs or {}))


class Plain(Calls):
    """Every call as it is; what is checkpointed is not repeated."""

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


def function_name(func: Callable[..., Any]) -> str:
    """Without what in-place, dunder and overloaded forms add: add for ``add_``, ``__iadd__``, ``aten.add.Tensor``."""
    name = func.__name__
    if name == "__get__":  # of a property, such as x.T
        name = func.__self__.__name__  # type: ignore[attr-defined]
    return _INPLACE.get(name) or name.partition(".")[0].strip("_")


_INPLACE = {f"__i{name}__": name for name in ("add", "sub", "mul", "truediv", "pow", "matmul")}


@contextmanager
def eager() -> Iterator[None]:
    """Compiled models run as they were written, so that hooks on their layers and modes are seen."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and loading it takes a second
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _with_version(tensor: Tensor) -> tuple[Tensor, int]:
    return tensor, tensor._version


def _unchanged(saved: tuple[Tensor, int]) -> Tensor:
    """The check that torch leaves out where there are hooks."""
    tensor, version = saved
    if tensor._version != version:
        raise RuntimeError("a tensor that the backward pass needs was modified by an inplace operation")
    return tensor

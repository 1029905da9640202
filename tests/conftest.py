"""One thread a process, since several test processes run side by side."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch here, and what a run takes for the number of cores."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

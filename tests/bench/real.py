"""Real weights and images, read through ``ASSAY_REAL``; tests skip where they are not."""

import gzip
import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("ASSAY_REAL", Path(__file__).parents[2].parent / "shared" / "real"))


def needed(path: Path) -> Path:
    """``path`` if it is there; skips the test otherwise."""
    if not path.exists():
        pytest.skip(f"no real weights and images in {REAL}; set ASSAY_REAL")
    return path


def mnist(folder: Path) -> str:
    """The spec of MNIST's test set, unpacked into ``folder`` as torchvision wants it."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        data = gzip.decompress(needed(REAL / "images" / "mnist" / f"{name}.gz").read_bytes())
        for prefix in ("t10k", "train"):
            (raw / name.replace("t10k", prefix)).write_bytes(data)
    return f"torchvision:MNIST?root={folder}"

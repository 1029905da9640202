"""Memory does not grow with the size of photographs, nor with their number."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from assay.bench.data import pictures as shelf
from assay.bench.data.picture_files import decode
from assay.synthesis.scores import radial_spectrum, spectrum_distance

PHOTOGRAPHS = 4
PEAK = """
import resource, sys
from assay.bench.data import load
from assay.bench.data.pictures import photographs
from assay.bench.measurements import Setup
from assay.bench.measurements.data import DataCell

def peak(root):
    data = load(f"folder:{root}")
    digest = data.digest
    DataCell(data=data.spec, limit=len(data), data_digest=digest).measure(Setup())
    total = sum(float(image.mean()) for image in photographs(root / "a", 64))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)

from pathlib import Path
small, large = (peak(Path(root)) for root in sys.argv[1:])
print(large - small)
"""


def _photographs(root: Path, size: tuple[int, int]) -> Path:
    picture = Image.radial_gradient("L").resize(size).convert("RGB")
    for i in range(PHOTOGRAPHS):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture.paste((i, 0, 0), (0, 0, 9, 9))
        picture.save(root / "ab"[i % 2] / f"{i}.jpg", quality=40)
    return root


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_large_photographs_take_no_more_memory_than_one_of_them(tmp_path: Path) -> None:
    """12 megapixels are 36 MB as bytes and 146 MB as floats; held together they were 146 MB each."""
    roots = [_photographs(tmp_path / "small", (360, 270)), _photographs(tmp_path / "large", (4000, 3000))]
    command = [sys.executable, "-c", PEAK, *map(str, roots)]
    growth = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # MiB
    assert growth < 150


def test_photographs_are_decoded_again_where_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def read(path: Path) -> Image.Image:
        reads.append(path)
        return decode(path)

    monkeypatch.setattr(shelf, "decode", read)
    monkeypatch.setattr(shelf, "KEPT", 2 * 3 * 8 * 12)
    root = _photographs(tmp_path, (12, 8))
    photographs = shelf.photographs(root, 8)
    first = [photographs[i] for i in (0, 1, 0, 1, 2, 0)]
    assert len(photographs) == PHOTOGRAPHS
    assert [path.stem for path in reads] == ["0", "2", "1", "0"]
    assert torch.equal(first[0], shelf.read(photographs.paths[0], shorter=8))
    assert torch.equal(first[0], first[5])
    assert [image.shape for image in photographs[:2]] == [(3, 8, 12)] * 2


def test_spectra_in_batches_are_spectra_at_once() -> None:
    """As the mean of the decibels of all of them, whatever the batches."""
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    natural = torch.rand(7, 3, 24, 32, generator=torch.Generator().manual_seed(1)).cumsum(3) / 32
    whole = spectrum_distance(images, natural)
    torch.testing.assert_close(spectrum_distance(images, iter(torch.split(natural, 3))), whole)
    power = 10 * (radial_spectrum(natural) + 1e-10).log10()
    gap = 10 * (radial_spectrum(images) + 1e-10).log10() - power.mean(0)
    torch.testing.assert_close(whole, gap.square().nanmean(1).sqrt())

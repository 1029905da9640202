"""The first layer of every family as a picture, or the reason why there is none."""

import pytest
import torch
from timm.layers import ScaledStdConv2d, StdConv2d, StdConv2dSame
from torch import nn

from assay.bench.families import FAMILIES, build
from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import find, record
from assay.core.receptive import box
from assay.explain.representation.filters import first_filters
from tests.families.test_families import QUICK

WITHOUT = {"csatv2": "stem_dct.conv_y reads something else than single pixels"}  # cosines over blocks of 8 pixels
CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.families) for name in FAMILIES]


@pytest.mark.parametrize("name", CASES)
def test_the_first_layer_has_a_picture(name: str) -> None:
    """What is drawn is the derivative of a unit by the pixels, its largest weight at the same place."""
    model, size = build(name), FAMILIES[name].size
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    if name in WITHOUT:
        with pytest.raises(NotApplicable, match=WITHOUT[name]):
            first_filters(model, images)
        return
    found = first_filters(model, images)
    assert found.weights.shape[1] == 3
    assert min(found.weights.shape[2:]) >= 3
    module = find(model, found.name)
    assert set(found.weights.flatten().tolist()) <= {0.0, *module.get_parameter("weight").flatten().tolist()}
    if isinstance(module, StdConv2d | StdConv2dSame | ScaledStdConv2d):
        return  # applies its weights standardised
    with evaluating(model), record(model, found.name) as outputs:
        pixels = images.clone().requires_grad_(True)
        model(pixels)
        output = outputs[found.name][0]
        units = output if isinstance(module, nn.Linear) else output.movedim(0, -1)
        unit = units[tuple(side // 2 for side in units.shape[:-1])]
        (gradient,) = torch.autograd.grad(unit[3], pixels)
    field = box((gradient[0] != 0).any(0))
    assert field is not None
    seen = gradient[0, :, field.top : field.top + field.height, field.left : field.left + field.width]
    if seen.shape == found.weights[3].shape:  # not cut by the border
        scale = seen.abs().amax() / found.weights[3].abs().amax()
        torch.testing.assert_close(seen, found.weights[3] * scale, rtol=1e-4, atol=1e-6)

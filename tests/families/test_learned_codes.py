"""Codes of every family: what its last linear layers read makes its logits."""

import pytest
import torch

from assay.bench.families import FAMILIES, build
from assay.core.borrow import evaluating
from assay.explain.representation.codes import codes, heads
from tests.families.test_families import QUICK

CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.families) for name in FAMILIES]


@pytest.mark.parametrize("name", CASES)
def test_the_logits_are_the_mean_of_what_the_heads_make_of_the_codes(name: str) -> None:
    """But for volo, whose second head is averaged in with its largest value over the tokens."""
    model, size = build(name), FAMILIES[name].size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = heads(model, images)
    values = torch.from_numpy(codes(model, [images], found))
    with evaluating(model), torch.no_grad():
        logits, made, start = model(images), [], 0
        for head in (model.get_submodule(each) for each in found):
            weight, bias = head.get_parameter("weight").flatten(1), dict(head.named_parameters()).get("bias", 0)
            made.append(values[:, start : start + weight.shape[1]] @ weight.T + bias)
            start += weight.shape[1]
    assert start == values.shape[1]
    if name == "volo":
        assert found == ["head", "aux_head"]
    else:
        torch.testing.assert_close(torch.stack(made).mean(0), logits, rtol=1e-4, atol=1e-5)

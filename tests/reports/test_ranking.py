"""Models are compared on the same attacks."""

import numpy as np
import pandas as pd

from assay.reports.run.ranking import budget, worst_case


def survivors(outcomes: dict[str, list[float]], norm: str = "linf", eps: float = 0.1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"model": "m", "method": method, "image": str(i), "value": value, "norm": norm, "eps": eps}
            for method, values in outcomes.items()
            for i, value in enumerate(values)
        ]
    )


def test_the_worst_case_is_the_mean_of_minima() -> None:
    found = worst_case(survivors({"a": [1, 1, 0, 0], "b": [1, 0, 1, 0]}))
    assert (found.value, found.n) == (0.25, 4)


def test_an_image_that_an_attack_lost_is_left_out() -> None:
    rows = survivors({"a": [1, 1, 1], "b": [1, np.nan, 0]}).dropna(subset="value")
    assert (worst_case(rows).value, worst_case(rows).n) == (0.5, 2)


def test_the_budget_with_most_attacks_is_compared() -> None:
    near = survivors({"pgd": [1], "fgsm": [1]}, eps=4 / 255)
    far = survivors({"pgd": [0]}, eps=8 / 255)
    found = budget(pd.concat([near, far]))
    assert found is not None
    assert found.eps == 4 / 255

"""Names and methods written as text."""

import pytest

from assay.attacks import ATTACKS
from assay.core.errors import AssayError
from assay.core.tables import Table, parse_call


def test_names_forgive_case_and_dashes() -> None:
    assert ATTACKS["random-noise"] is ATTACKS["RandomNoise"] is ATTACKS["random_noise"]


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(AssayError, match="did you mean pgd") as error:
        ATTACKS.parse("pdg(eps=0.1)")
    assert "\n" not in str(error.value)
    assert "random-noise" in str(error.value)


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(AssayError, match="did you mean step or steps"):
        ATTACKS.parse("pgd(stepz=3)")


@pytest.mark.parametrize(
    "text", ["pgd(steps=0.5)", "pgd(eps=big)", "pgd(norm=l7)", "pgd(random_start=1)", "pgd(eps=True)"]
)
def test_a_value_of_a_wrong_type_is_refused(text: str) -> None:
    with pytest.raises(AssayError, match="is not"):
        ATTACKS.parse(text)


def test_literals_fractions_and_words_are_read() -> None:
    name, settings = parse_call("x-y(a=1, b=-4/255, c=word, d='two words', e=(1, 2), f=True, g=None)")
    assert name == "x-y"
    assert settings == {
        "a": 1, "b": -4 / 255, "c": "word", "d": "two words", "e": (1, 2), "f": True, "g": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "x(a=__import__('os'))",
        "x(a=1+1)",
        "x(a=[1 for _ in y])",
        "x(1)",
        "x(a=b.c())",
        "x(a=(1).real)",
        "x(",
        "x(a=1/0)",
        "x(**y)",
        "",
        "x y",
    ],
)
def test_nothing_is_evaluated(text: str) -> None:
    with pytest.raises(AssayError):
        parse_call(text)


def test_a_table_imports_only_what_is_asked_for() -> None:
    table = Table("thing", {"there": "fractions:Fraction", "missing": "no.such.module:Class"})
    assert list(table) == ["there", "missing"]
    assert table["there"].__name__ == "Fraction"

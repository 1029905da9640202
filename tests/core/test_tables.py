"""Names and methods written as text."""

from dataclasses import dataclass

import pytest

from assay.attacks import ATTACKS
from assay.core.errors import AssayError
from assay.core.tables import Table, build, members, parse_call
from assay.explain import EXPLAINERS
from assay.explain.metrics import METRICS
from assay.synthesis import SYNTHESES


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


def test_a_tuple_has_as_many_items_as_its_type() -> None:
    """``tuple[int, int]`` takes two; ``tuple[int, ...]`` any number; each item counts, not the first alone."""
    assert SYNTHESES.parse("efros-leung(size=(8, 9))").size == (8, 9)
    assert SYNTHESES.parse("visualize(size=(3, 8, 9))").size == (3, 8, 9)
    for size in ("(8, 9, 10)", "(8,)", "()", "(8, 0.5)"):
        with pytest.raises(AssayError, match=r"EfrosLeung: size=\(.*\) is not tuple\[int, int\] \| None"):
            SYNTHESES.parse(f"efros-leung(size={size})")
    with pytest.raises(AssayError, match="is not"):
        SYNTHESES.parse("visualize(size=(3, word))")


@dataclass(frozen=True)
class Tuples:
    bare: tuple = ()  # type: ignore[type-arg]
    empty: tuple[()] = ()
    mixed: tuple[int, str] = (1, "a")
    nested: tuple[tuple[int, float], ...] = ()


@pytest.mark.parametrize(
    ("setting", "value", "other"),
    [
        ("bare", (1, "a", None), 1),
        ("empty", (), (1,)),
        ("mixed", (1, "a"), ("a", 1)),
        ("nested", ((1, 0.5), (2, 1)), ((1, 0.5), (2,))),
    ],
)
def test_tuples_of_every_form_are_checked(setting: str, value: object, other: object) -> None:
    assert getattr(build(Tuples, {setting: value}), setting) == value
    with pytest.raises(AssayError, match=f"Tuples: {setting}=.* is not tuple"):
        build(Tuples, {setting: other})


@pytest.mark.parametrize("table", [ATTACKS, EXPLAINERS, METRICS, SYNTHESES], ids=lambda table: table.kind)
def test_every_record_is_parsed_from_its_own_text(table: Table) -> None:
    for cls in table.values():
        assert table.parse(repr(cls())) == cls()


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


@pytest.mark.parametrize(
    "specs",
    [
        ["zoo:resnet", "zoo:vit"],
        ["resnet50.a1_in1k", "vit_small_patch16_224@main", "my net"],
        ["resnet50=a.pth", "py:a.b:c", "hf-hub:a/b", "local-dir:a"],
        ["zoo:c++/linear.safetensors"],
        ["resnet50=c++/w.pth", "zoo:vit"],
        ["resnet50=a+b.safetensors"],
        ["local-dir:a+b/c", "resnet50"],
        ["zoo:resnet+"],
    ],
)
def test_a_plus_joins_models_but_no_parts_of_a_path(specs: list[str]) -> None:
    assert members("+".join(specs)) == specs

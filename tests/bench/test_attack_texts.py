"""One text, several attacks."""

import pytest

from assay.attacks import ATTACKS, FGSM, PGD, WorstCase
from assay.bench.measurements import Options
from assay.bench.method_records import parse_attack, parse_attacks
from assay.bench.runs.plan import plan
from assay.core.errors import AssayError
from assay.core.tables import number
from tests.bench.nets import OWN


def test_a_list_for_one_value_is_every_value() -> None:
    assert parse_attacks("pgd(eps=[1/255, 2/255], norm=[linf, l2], steps=3)") == [
        (PGD(eps=eps / 255, norm=norm, steps=3), "untargeted") for eps in (1, 2) for norm in ("linf", "l2")
    ]
    assert parse_attacks("fgsm(goal=[random, least_likely, 3])") == [
        (FGSM(), "random"),
        (FGSM(), "least_likely"),
        (FGSM(), 3),
    ]


def test_a_list_where_lists_are_taken_is_one_value() -> None:
    ((record, _),) = parse_attacks("worst-case(attacks=[fgsm, pgd])")
    assert isinstance(record, WorstCase)
    assert record.attacks == ("fgsm", "pgd")
    assert len(parse_attacks("worst-case(attacks=[[fgsm], [pgd, fgsm]], eps=[1/255, 2/255])")) == 4


def test_radii_and_norms_go_where_they_are_not_given() -> None:
    def swept(text: str) -> list[object]:
        return [record for record, _ in parse_attacks(text, (0.1, 0.2), ("linf", "l2", "l0"))]

    assert swept("pgd") == [PGD(norm=norm, eps=eps) for norm in ("linf", "l2") for eps in (0.1, 0.2)]
    assert swept("pgd(eps=0.3)") == [PGD(norm="linf", eps=0.3), PGD(norm="l2", eps=0.3)]
    assert swept("pgd(norm=l1)") == [PGD(norm="l1", eps=eps) for eps in (0.1, 0.2)]
    assert swept("fgsm") == [FGSM(eps=0.1), FGSM(eps=0.2)]
    assert swept("gradient-fooling") == [ATTACKS.parse("gradient-fooling")]
    assert swept("ddn") == [ATTACKS.parse("ddn")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pgd(eps=[])", "names no value"),
        ("pgd(eps=[0.1, many])", "eps='many'"),
        ("pgd(goal=[])", "goal"),
        ("pgd(epz=[0.1])", "did you mean eps"),
        ("pgd(eps=[__import__('os')])", "only numbers, fractions, words and lists"),
    ],
)
def test_what_is_no_sweep_is_said(text: str, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        parse_attacks(text)


def test_one_attack_is_one() -> None:
    with pytest.raises(AssayError, match="is 2 attacks; write one"):
        parse_attack("pgd(eps=[0.1, 0.2])")


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("4/255", 4 / 255), (" 1 ", 1), ("-1/2", -0.5)])
def test_numbers_and_fractions(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "one", "1/", "1+1", "print(1)", "True"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(AssayError):
        number(text)


def test_a_run_takes_each_attack_once() -> None:
    options = Options(
        models=(OWN + "linear",), data=("digits",), attacks=("pgd", "fgsm", "pgd(eps=0.1)"), eps=("1/10", 0.2), limit=5
    )
    found = plan(options)
    methods = [cell.method.text for cell in found.cells if cell.kind == "attack"]
    assert methods == [repr(record) for record in (PGD(eps=0.1), PGD(eps=0.2), FGSM(eps=0.1), FGSM(eps=0.2))]
    assert [aim.text for aim in found.ask.aims] == methods

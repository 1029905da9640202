import pytest

from assay.reports.run import labels, schema1

PGD = "PGD(norm={norm!r}, eps={eps!r}, steps={steps}, step=None, restarts=1, random_start=True)"


def short(texts: list[str], always: tuple[str, ...] = ()) -> dict[str, str]:
    return labels.short(map(schema1.method, texts), always)


def test_only_what_differs_is_named() -> None:
    weak, strong = (PGD.format(norm="linf", eps=k / 255, steps=40) for k in (4, 8))
    brief = short([weak, strong, "FGSM(eps=0.01568627450980392)", "GradCAM(layer=None)"])
    assert list(brief.values()) == ["PGD 4/255", "PGD 8/255", "FGSM", "GradCAM"]


def test_norms_steps_goals_and_switches_are_named() -> None:
    assert list(short([PGD.format(norm=norm, eps=0.5, steps=40) for norm in ("l2", "l1")]).values()) == [
        "PGD L2",
        "PGD L1",
    ]
    assert list(short(["PGD(steps=10)", "PGD(steps=40)"]).values()) == ["PGD steps 10", "PGD steps 40"]
    assert list(short(["A(on=True)", "A(on=False)"]).values()) == ["A on", "A no on"]
    assert list(short(["FGSM(eps=0.1)", "FGSM(eps=0.1) goal=least-likely"]).values()) == [
        "FGSM",
        "FGSM → least-likely",
    ]
    worst = ["WorstCase(attacks=('fgsm', 'pgd'), eps=0.1)", "WorstCase(attacks=('apgd(loss=dlr)',), eps=0.1)"]
    assert list(short(worst).values()) == ["WorstCase fgsm + pgd", "WorstCase apgd(loss=dlr)"]
    assert short(["FGSM(eps=0.1)"], always=("eps",))["FGSM(eps=0.1)"] == "FGSM 0.1"


@pytest.mark.parametrize(
    ("eps", "norm", "text"),
    [
        (4 / 255, "linf", "4/255"),
        (0.5 / 255, "linf", "0.5/255"),
        (0.3, "linf", "0.3"),
        (0.5, "l2", "0.5"),
        (1.0, "l2", "1"),
        (0.0, "linf", "0"),
    ],
)
def test_radius(eps: float, norm: str, text: str) -> None:
    assert labels.radius(eps, norm) == text


@pytest.mark.parametrize(
    "text", ["none", "", "PGD(", "PGD(eps=", "__import__('os')", "a b c", "f(" * 500, "<script>alert(1)</script>"]
)
def test_what_is_no_call_stays_whole(text: str) -> None:
    assert schema1.method(text, {}).eps is None
    assert short([text])[text] in (text, schema1.method(text).name)


def test_nothing_is_evaluated() -> None:
    parsed = schema1.method("A(x=__import__('os').system('exit'), attacks=(PGD(eps=1.0),), eps=inf)", {})
    assert parsed.settings["x"] == "__import__('os').system('exit')"
    assert parsed.settings["attacks"] == "(PGD(eps=1.0),)"
    assert parsed.eps is None


def test_a_family_is_all_but_the_radius() -> None:
    weak, strong, aimed = (
        labels.family(schema1.method(f"PGD(norm='linf', eps={eps}, steps=4){goal}"))
        for eps, goal in ((0.1, ""), (0.2, ""), (0.1, " goal=least-likely"))
    )
    assert weak == strong
    assert weak.text == "PGD(norm='linf', steps=4)"
    assert weak.text != aimed.text


def test_short_names_never_collide() -> None:
    methods = [f"A(text={'x' * 40 + str(i) + 'x' * 40!r})" for i in range(3)]
    assert len(set(short(methods).values())) == 3


def test_long_names_are_told_apart_by_what_differs() -> None:
    """Figures lose their axes with a label of 130 letters."""
    base = "/home/jane/experiments/2026-11-30_finetune_flowers/lr=0.001,wd=0.05,aug=rand-m9-mstd0.5"
    folds = [f"resnet50={base}/fold{k}/checkpoint_best.pth" for k in (1, 2)]
    assert list(labels.models(folds).values()) == ["resnet50 fold1", "resnet50 fold2"]
    alike = [f"a={'x' * 100}{sign}{'y' * 100}" for sign in "3456"]
    assert next(iter(labels.models(alike).values())) == f"a {'x' * 13}…{'y' * 12} (1)"
    data = [f"folder:{base}/{name}/val" for name in ("cats", "dogs")] + ["folder:/a/val"]
    assert list(labels.data(data).values()) == ["folder:…/val cats", "folder:…/val dogs", "folder:/a/val"]
    data.append(f"folder:/a/{'b' * 200}")
    for found in (labels.models([*folds, *alike]), labels.data(data)):
        assert len(set(found.values())) == len(found)
        assert max(map(len, found.values())) <= 60


def test_models_and_data() -> None:
    models = ["zoo:resnet", "py:subjects:mobilenetv2_100", "ghostnet_100=w/a.pth", "resnet18=a.pth", "resnet18=b.pth"]
    assert list(labels.models(models).values()) == [
        "zoo:resnet",
        "mobilenetv2_100",
        "ghostnet_100",
        "resnet18=a.pth",
        "resnet18=b.pth",
    ]
    assert list(labels.data(["scenes?shortcut=lies", "folder:/home/me/cats"]).values()) == [
        "scenes?shortcut=lies",
        "folder:…/cats",
    ]
    assert list(labels.data(["folder:/a/cats", "folder:/b/cats"]).values()) == ["folder:/a/cats", "folder:/b/cats"]

"""What the page and the tables make of every kind of attack."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from assay import reports
from assay.reports.context import Context, gather
from assay.reports.drawing import query_curves, robustness_curves
from assay.reports.drawing.theme import LIGHT, Plot, themed
from assay.reports.kinds import landscape, transfer
from assay.reports.run import attack_findings, ranking, schema1
from assay.reports.run.cross_attack_checks import CHECKS
from assay.reports.run.outcomes import WORST, outcomes, survivors
from assay.reports.run.reader import Run
from tests.reports import made
from tests.reports.builder import Builder
from tests.reports.site import Site

SECTIONS = ("transfer", "queries", "around", "strength", "checks", "nothing")
OWN = ("nothing",)  # on the page of each model
MODELS = ("zoo:a", "zoo:b")
KINDS = ("clean", "attack", "transfer", "fooling", "landscape")


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models under every kind of attack."""
    builder = Builder(
        models=MODELS,
        attacks=tuple(made.STRONG),
        described=made.described(),
        sources=(*MODELS, "zoo:a+zoo:b"),
        kinds=KINDS,
        images=30,
        shown=2,
    )
    return builder.write(tmp_path_factory.mktemp("strong"))


@pytest.fixture(scope="module")
def context(strong: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return gather(reports.load(strong), tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="module")
def results(context: Context) -> Run:
    return context.run


@pytest.fixture(scope="module")
def tables(context: Context) -> dict[str, pd.DataFrame]:
    return context.tables


@pytest.fixture(scope="module")
def site(strong: Path) -> Site:
    return Site(reports.write(strong))


def draw(plot: Plot) -> Figure:
    with themed(LIGHT):
        return plot.draw(LIGHT)


def test_the_pages_have_every_section(strong: Path, site: Site) -> None:
    sources = [page.source for page in site.pages.values()]
    for section in SECTIONS:
        assert [f'id="{section}"' in source for source in sources].count(True) == (len(MODELS) if section in OWN else 1)
    text = site.text
    for words in ("Most travels from", "To lose half of what it gets right", "No attack contradicts another", "R²"):
        assert words in text, words
    for table in ("curves", "optimality", "transfer", "checks"):
        assert (strong / "tables" / f"{table}.csv").stat().st_size > 100


def test_without_data_there_is_no_section(tmp_path: Path) -> None:
    site = Site(reports.write(Builder(models=MODELS, images=3, kinds=("clean",)).write(tmp_path)))
    for section in SECTIONS:
        assert not [page for page in site.pages.values() if f'id="{section}"' in page.source]
    for table in ("curves", "optimality", "transfer", "checks"):
        assert len(pd.read_csv(tmp_path / "tables" / f"{table}.csv")) == 0


def test_every_flag_is_explained(site: Site) -> None:
    known = "wrong-shape non-finite out-of-range over-budget non-finite-logits not-repeatable boundary lost-at-8-bit"
    known += " unchanged probabilities gradient-in-forward batch-dependent zero-gradient silent-success incomplete"
    for flag in (*known.split(), *(check.flag for check in CHECKS if check.flag)):
        assert f'<th scope="row">{flag}</th>' in site["problems.html"].source, flag


def test_a_sound_run_passes_every_check(tables: dict[str, pd.DataFrame]) -> None:
    failed = tables["checks"][tables["checks"]["state"] != "passed"]
    assert not len(failed), failed.to_string()


def test_distances_are_those_of_the_attack_s_norm(results: Run) -> None:
    found = outcomes(results)
    assert (found.loc[~found["started"], "distance"] == 0).all()
    assert np.isinf(found.loc[found["started"] & ~found["fooled"], "distance"]).all()
    mine = found[(found["method"] == "JSMA(theta=1.0)") & found["fooled"]]
    rows = results.rows[(results.rows["method"] == "JSMA(theta=1.0)") & (results.rows["metric"] == "distance_l0")]
    both = mine.merge(rows, on=["model", "image"])
    assert len(both)
    assert (both["distance"] == both["value"]).all()


def test_facts_of_a_described_and_of_an_old_attack(results: Run) -> None:
    assert results.method("DDN(steps=100)").norm == "l2"
    assert results.method("DDN(steps=100)").minimal
    old = schema1.method("DeepFool(overshoot=0.02, steps=50)", {})
    assert (old.norm, old.eps, old.minimal) == ("l2", None, True)
    nested = schema1.method("WorstCase(attacks=(PGD(eps=0.1, norm='l2'), 'fgsm'), norm='l2', eps=0.1) goal=random", {})
    assert (nested.norm, nested.eps, nested.goal, nested.minimal) == ("l2", 0.1, "random", False)


def test_curves_start_at_the_clean_accuracy_and_carry_the_points(context: Context) -> None:
    tables, marks = context.tables, context.marks
    plots = {plot.name: plot for plot in robustness_curves.figures(context, "scenes", "d0")}
    assert list(plots) == ["d0-radius-linf", "d0-radius-l2", "d0-radius-l0"]
    (ax,) = draw(plots["d0-radius-linf"]).axes
    clean = tables["summary"].query("kind == 'clean' and metric == 'accuracy'").set_index("model")["value"]
    rows = survivors(context.run, "scenes")
    for model in MODELS:
        lines = [line for line in ax.lines if line.get_color() == marks[model].colour]
        curve = next(line for line in lines if line.get_label() == model)
        x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert (x[0], y[0]) == (0, pytest.approx(clean[model]))
        assert (np.diff(y) <= 0).all()
        points = next(line for line in lines if line.get_marker() == marks[model].marker)
        mine = rows[(rows["model"] == model) & (rows["norm"] == "linf")]
        worst = [ranking.worst_case(group).value for _, group in mine.groupby("eps")]
        assert np.asarray(points.get_ydata()).tolist() == worst
        assert np.asarray(points.get_xdata()).tolist() == pytest.approx([1, 2, 4, 8])


def test_the_transfer_matrix(context: Context) -> None:
    table = context.tables["transfer"]
    assert len(table) == 3 * 2
    assert set(table["source"]) == {*MODELS, "zoo:a+zoo:b"}
    (plot,) = transfer.figures(context, "scenes", "d0")
    ax = draw(plot).axes[0]
    (mesh,) = (each for each in ax.collections if isinstance(each, QuadMesh))
    shown: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(3, 3)
    rate = table.set_index(["source", "victim"])["fooling_rate"]
    assert shown[0, 1] == pytest.approx(100 * rate["zoo:a", "zoo:b"])
    assert shown[0, 2] == pytest.approx(100 * rate["zoo:a", "zoo:b"])  # the mean of the one other
    assert np.isnan(shown[2, 2])  # the ensemble has no other victim
    framed = {(round(r.get_x()), round(r.get_y())) for r in ax.patches if isinstance(r, Rectangle)}
    assert framed == {(0, 0), (1, 1), (0, 2), (1, 2)}


def test_query_curves_end_at_the_share_fooled(context: Context, tables: dict[str, pd.DataFrame]) -> None:
    shares, tracks = query_curves.figures(context, "scenes", "d0")
    square = next(method for method in made.STRONG if method.startswith("Square"))
    rate = tables["summary"].query("metric == 'fooling_rate'").set_index(["model", "method"])["value"]
    (ax,) = draw(shares).axes
    for line in ax.lines:
        assert np.asarray(line.get_ydata())[-1] == pytest.approx(rate[str(line.get_label()), square])
    (ax,) = draw(tracks).axes
    for line in ax.lines:
        assert set(np.asarray(line.get_xdata())) <= set(made.Q)
        assert (np.diff(np.asarray(line.get_ydata(), float)) < 0).all()


def test_an_image_not_yet_fooled_counts_as_infinitely_far(tmp_path: Path) -> None:
    method = "HopSkipJump(norm='l2', queries=5000)"
    builder = Builder(models=("m",), kinds=(), described=made.described())
    run = builder.write(tmp_path)
    values = {
        "fooling_rate": [1, 1, 1, np.nan],
        "distance_at_100": [5, np.nan, np.nan, np.nan],
        "distance_at_200": [4, 6, np.nan, np.nan],
    }
    rows = [
        {"image": str(i), "metric": metric, "value": float(value)}
        for metric, column in values.items()
        for i, value in enumerate(column)
    ]
    builder.add(run, "attack", "m", "scenes", method, rows)
    (run / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    results = reports.load(run)
    found = query_curves.distances(results, "scenes", outcomes(results))
    assert found[["queries", "value"]].to_numpy().tolist() == [[200, 6]]


def test_landscapes_draw_the_label_bold_and_the_boundary(context: Context) -> None:
    line, surface = landscape.figures(context, "scenes", "d0")
    for ax, each in zip(draw(line).axes, context.art("landscape"), strict=True):
        bold = max(ax.lines, key=lambda line: line.get_linewidth())
        assert np.asarray(bold.get_ydata()).tolist() == each.logits[0, :, each.labels[0]].tolist()
        assert bold.get_color() == context.marks[each.model].colour
        assert len(ax.lines) == 4 + 1  # a line for each class, and the image itself
    figure = draw(surface)
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == list(MODELS)


def test_a_model_looked_at_on_another_image_says_so(strong: Path, tmp_path: Path) -> None:
    context = gather(reports.load(strong), tmp_path)
    context.art("landscape")[1].ids[:] = ["other-1", "other-2"]
    line, _ = landscape.figures(context, "scenes", "d0")
    assert draw(line).axes[1].get_title(loc="left") == "zoo:b, other-1"


def test_broken_landscapes_are_said(tmp_path: Path) -> None:
    run = Builder(models=("m",), images=3, kinds=("clean", "landscape")).write(tmp_path)
    for path in (run / "art").rglob("surface.npz"):
        np.savez(path, axis=np.zeros(3), margin=np.zeros((1, 2, 3)), loss=np.zeros(1))
    site = Site(reports.write(run))
    assert "do not fit" in site["problems.html"].source
    assert not [page for page in site.pages.values() if 'id="around"' in page.source]


def test_optimality_stands_below_one_for_what_finds_larger_changes(tables: dict[str, pd.DataFrame]) -> None:
    found = tables["optimality"].groupby(["norm", "method"])["optimality"].mean()
    assert found["l2", "DDN(steps=100)"] > found["l2", "DeepFool(norm='l2', steps=50)"]
    assert found["l2", "DeepFool(norm='l2', steps=50)"] > found["l2", "HopSkipJump(norm='l2', queries=5000)"]
    assert found.between(0, 1 + 1e-9).all()
    worst = tables["curves"].query(f"method == '{WORST}'")
    assert set(worst["norm"]) == {"linf", "l2", "l0"}


@pytest.mark.parametrize(("pair", "text"), [((0.5, 0.1), "from a to b"), ((0.1, 0.7), "from b to a")])
def test_the_worst_pair_is_named(results: Run, pair: tuple[float, float], text: str) -> None:
    records: list[dict[str, Any]] = [
        {"attack": "FGSM(eps=0.1)", "source": source, "victim": victim, "fooling_rate": rate}
        | {"fooling_low": rate - 0.05, "fooling_high": rate + 0.05, "fooling_n": 40}
        for source, victim, rate in (("a", "a", 1.0), ("a", "b", pair[0]), ("b", "a", pair[1]), ("b", "b", 1.0))
    ]
    assert text in attack_findings.transfer(results, pd.DataFrame(records), {"a": "a", "b": "b"})

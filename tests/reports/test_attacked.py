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
from assay.reports.run import attack_findings as attacked
from assay.reports.kinds import landscape
from assay.reports.drawing import query_curves as queries
from assay.reports.drawing import robustness_curves as radii
from assay.reports.run import ranking
from assay.reports.kinds import transfer
from assay.reports.run.outcomes import WORST, facts, outcomes
from assay.reports.drawing.theme import LIGHT, Identity, Plot, identities, themed
from assay.reports.drawing.album import Album
from assay.reports.run.reader import Results
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
def results(strong: Path) -> Results:
    return reports.load(strong)


@pytest.fixture(scope="module")
def tables(results: Results) -> dict[str, pd.DataFrame]:
    return reports.tables(results)


@pytest.fixture(scope="module")
def marks(results: Results) -> dict[str, Identity]:
    return identities({model: model for model in results.models})


@pytest.fixture(scope="module")
def site(strong: Path) -> Site:
    return Site(reports.write(strong))


def drawn(plot: Plot) -> Figure:
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
    for flag in (*known.split(), *(check.flag for check in reports.checks.CHECKS if check.flag)):
        assert f'<th scope="row">{flag}</th>' in site["problems.html"].source, flag


def test_a_sound_run_passes_every_check(tables: dict[str, pd.DataFrame]) -> None:
    failed = tables["checks"][tables["checks"]["state"] != "passed"]
    assert not len(failed), failed.to_string()


def test_distances_are_those_of_the_attack_s_norm(results: Results) -> None:
    found = outcomes(results)
    assert (found.loc[~found["started"], "distance"] == 0).all()
    assert np.isinf(found.loc[found["started"] & ~found["fooled"], "distance"]).all()
    mine = found[(found["method"] == "JSMA(theta=1.0)") & found["fooled"]]
    rows = results.rows[(results.rows["method"] == "JSMA(theta=1.0)") & (results.rows["metric"] == "distance_l0")]
    both = mine.merge(rows, on=["model", "image"])
    assert len(both)
    assert (both["distance"] == both["value"]).all()


def test_facts_of_a_described_and_of_an_old_attack(results: Results) -> None:
    assert facts(results, "DDN(steps=100)").norm == "l2"
    assert facts(results, "DDN(steps=100)").minimal
    old = facts(results, "DeepFool(overshoot=0.02, steps=50)")
    assert (old.norm, old.eps, old.minimal) == ("l2", None, True)
    nested = "WorstCase(attacks=(PGD(eps=0.1, norm='l2'), 'fgsm'), norm='l2', eps=0.1) goal=least-likely"
    assert (facts(results, nested).norm, facts(results, nested).eps) == ("l2", 0.1)
    assert facts(results, nested).goal == "least-likely"
    assert not facts(results, nested).minimal


def test_curves_start_at_the_clean_accuracy_and_carry_the_points(
    results: Results, tables: dict[str, pd.DataFrame], marks: dict[str, Identity]
) -> None:
    plots = {plot.name: plot for plot in radii.figures(results, tables, "scenes", marks, "d0")}
    assert list(plots) == ["d0-radius-linf", "d0-radius-l2", "d0-radius-l0"]
    (ax,) = drawn(plots["d0-radius-linf"]).axes
    clean = tables["summary"].query("kind == 'clean' and metric == 'accuracy'").set_index("model")["value"]
    rows = ranking.survivors(results, "scenes")
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


def test_the_transfer_matrix(tables: dict[str, pd.DataFrame], marks: dict[str, Identity]) -> None:
    table = tables["transfer"]
    assert len(table) == 3 * 2
    assert set(table["source"]) == {*MODELS, "zoo:a+zoo:b"}
    (plot,) = transfer.figures(table, "scenes", marks, "d0")
    ax = drawn(plot).axes[0]
    (mesh,) = (found for found in ax.collections if isinstance(found, QuadMesh))
    shown: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(3, 3)
    rate = table.set_index(["source", "victim"])["fooling_rate"]
    assert shown[0, 1] == pytest.approx(100 * rate["zoo:a", "zoo:b"])
    assert shown[0, 2] == pytest.approx(100 * rate["zoo:a", "zoo:b"])  # the mean of the one other
    assert np.isnan(shown[2, 2])  # the ensemble has no other victim
    framed = {(round(r.get_x()), round(r.get_y())) for r in ax.patches if isinstance(r, Rectangle)}
    assert framed == {(0, 0), (1, 1), (0, 2), (1, 2)}


def test_query_curves_end_at_the_share_fooled(
    results: Results, tables: dict[str, pd.DataFrame], marks: dict[str, Identity]
) -> None:
    shares, tracks = queries.figures(results, "scenes", marks, "d0")
    square = next(method for method in made.STRONG if method.startswith("Square"))
    rate = tables["summary"].query("metric == 'fooling_rate'").set_index(["model", "method"])["value"]
    (ax,) = drawn(shares).axes
    for line in ax.lines:
        assert np.asarray(line.get_ydata())[-1] == pytest.approx(rate[str(line.get_label()), square])
    (ax,) = drawn(tracks).axes
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
    found = queries.distances(results, "scenes", outcomes(results))
    assert found[["queries", "value"]].to_numpy().tolist() == [[200, 6]]


def test_landscapes_draw_the_label_bold_and_the_boundary(
    results: Results, tables: dict[str, pd.DataFrame], marks: dict[str, Identity], tmp_path: Path
) -> None:
    found = landscape.landscapes(results, Album(tmp_path))
    line, surface = landscape.figures(found, tables["summary"], "scenes", marks, "d0")
    for ax, one in zip(drawn(line).axes, found, strict=True):
        bold = max(ax.lines, key=lambda drawn: drawn.get_linewidth())
        assert np.asarray(bold.get_ydata()).tolist() == one.logits[0, :, one.labels[0]].tolist()
        assert bold.get_color() == marks[one.model].colour
        assert len(ax.lines) == 4 + 1  # a line for each class, and the image itself
    figure = drawn(surface)
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == list(MODELS)


def test_a_model_looked_at_on_another_image_says_so(
    results: Results, tables: dict[str, pd.DataFrame], marks: dict[str, Identity], tmp_path: Path
) -> None:
    first, second = landscape.landscapes(results, Album(tmp_path))
    second.ids[:] = ["other-1", "other-2"]
    line, _ = landscape.figures([first, second], tables["summary"], "scenes", marks, "d0")
    assert drawn(line).axes[1].get_title(loc="left") == "zoo:b, other-1"


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
def test_the_worst_pair_is_named(pair: tuple[float, float], text: str) -> None:
    records: list[dict[str, Any]] = [
        {"attack": "FGSM(eps=0.1)", "source": source, "victim": victim, "fooling_rate": rate}
        | {"fooling_low": rate - 0.05, "fooling_high": rate + 0.05, "fooling_n": 40}
        for source, victim, rate in (("a", "a", 1.0), ("a", "b", pair[0]), ("b", "a", pair[1]), ("b", "b", 1.0))
    ]
    marks = identities({"a": "a", "b": "b"})
    assert text in attacked.transfer(pd.DataFrame(records), marks)

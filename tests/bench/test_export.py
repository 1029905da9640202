"""Tables and figures of a run as files."""

import re
import zlib
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from assay import Tables, run
from assay.bench.cli import main
from assay.core.errors import AssayError
from assay.reports.context import Context, gather
from assay.reports.drawing.theme import LIGHT, Look, Plot, canvas
from assay.reports.export import save_figure, save_figures, save_tables
from assay.reports.paper import in_latex, in_markdown, latex, markdown
from tests.bench.nets import OWN

NASTY = r"50% & $x_1$ #{a} ~b ^c \d [e] <f> g|h *i*"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    out = tmp_path_factory.mktemp("export") / "run"
    attacks = ["fgsm(eps=0.05)", "pgd(eps=0.05, steps=3)", "pgd(eps=0.1, steps=3)"]
    models = [OWN + "convolutional", OWN + "linear"]
    return run(models, "digits", attacks=attacks, explainers=["saliency", "random-map"], limit=6, out=out)


@pytest.fixture(scope="module")
def context(small: Tables, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return gather(small.run, tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def gathered(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are worked out once, where what is done with them is tested."""
    monkeypatch.setattr("assay.bench.commands.export.gather", lambda run, pictures: context)


def drawn(look: Look) -> Figure:
    figure = canvas(8, 3)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=look.ink)
    axes.set(xlabel="radius", ylabel="images")
    axes.imshow([[0.0, 1.0], [1.0, 0.0]], extent=(0.2, 0.6, 0.2, 0.6))
    return figure


PLOT = Plot("d0-line", "A line", "It rises.", "A rising line.", drawn)


def call(*tokens: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(tokens)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def page(path: Path) -> bytes:
    """The drawing operators of a PDF's page."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL)
    texts = [zlib.decompress(stream) for stream in streams if stream[:1] == b"x"]
    (found,) = [text for text in texts if b" cm" in text and b"BT" in text]
    return found


def tex_rows(text: str) -> list[list[str]]:
    """The cells of a tabular, heads first."""
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    return [re.split(r"(?<!\\) & ", line.removesuffix(r"\\").strip()) for line in lines]


def test_csv_and_parquet_hold_every_digit(small: Tables, tmp_path: Path) -> None:
    files, _ = save_tables(small, tmp_path, ["csv", "parquet"])
    assert {path.name for path in files} == {
        f"{name}.{end}" for name, table in small.items() if len(table) for end in ("csv", "parquet")
    }
    for name in ("summary", "ranking", "images", "models"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), small[name])
    again = pd.read_csv(tmp_path / "summary.csv")
    for column in ("value", "low", "high", "n"):
        pd.testing.assert_series_equal(again[column], small.summary[column], check_exact=True)


def test_a_paper_s_ranking_shows_values_with_intervals(small: Tables) -> None:
    heads, *rows = tex_rows(latex(small.ranking, small.info.methods))
    assert heads[:3] == ["Model", "Clean accuracy", "Robust accuracy"]
    for row, (_, known) in zip(rows, small.ranking.iterrows(), strict=True):
        assert row[0] == known["model"].rpartition(":")[2]
        assert row[2] == "{:.3f} [{:.3f}, {:.3f}]".format(*known[["robust_accuracy", "robust_low", "robust_high"]])
    text = latex(small.ranking, small.info.methods)
    assert "% Data: digits\n" in text
    assert "% Budget: L∞ 0.05\n" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1


def test_what_only_programs_read_is_not_in_a_paper(small: Tables) -> None:
    assert "digest" in small.models
    heads, *rows = tex_rows(latex(small.models))
    assert heads[0] == "Model"
    assert [row[0] for row in rows] == ["convolutional", "linear"]
    assert small.models["digest"].iloc[0] not in latex(small.models)


def test_methods_go_by_what_differs(small: Tables) -> None:
    attacked = small.summary[small.summary["metric"] == "robust_accuracy"]
    methods = {
        line.split(" | ")[1] for line in markdown(attacked, small.info.methods).splitlines() if line.startswith("| c")
    }
    assert methods == {"FGSM 0.05", "PGD L∞ 0.05", "PGD L∞ 0.1"}


def test_each_data_set_has_a_table_of_its_own() -> None:
    table = pd.DataFrame({"data": ["b", "a", "b"], "model": ["x", "x", "y"], "value": [0.5, 0.25, 1.0]})
    assert markdown(table).split("\n\n") == [
        "Data: b",
        "| Model | Value |\n| :-- | --: |\n| x | 0.500 |\n| y | 1.000 |",
        "| Data | Model | Value |\n| :-- | :-- | --: |\n| a | x | 0.250 |\n",
    ]


def test_numbers_keep_their_meaning() -> None:
    table = pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "p": [1e-9, 0.5, 0.0],
            "seconds": [1234.56, 0.01, float("nan")],
            "n": pd.array([1, 2, None], "Int64"),
            "holds": [True, False, True],
            "nothing": [float("nan")] * 3,
        }
    )
    assert [line.strip("| ").split(" | ") for line in markdown(table).splitlines()] == [
        ["Name", "P", "Seconds", "N", "Holds"],
        [":--", "--:", "--:", "--:", ":--"],
        ["a", "1e-09", "1234.6", "1", "yes"],
        ["b", "0.500", "0.01", "2", "no"],
        ["c", "0.000", "–", "–", "yes"],
    ]


def test_user_text_is_only_text_in_latex() -> None:
    table = pd.DataFrame({"note": [NASTY, "[plain]"], "x_y": ["u_v", "w"]})
    heads, *rows = tex_rows(latex(table))
    assert heads == ["Note", "X y"]
    assert [len(row) for row in rows] == [2, 2]
    assert rows[0][0] == (
        r"50\% \& \$x\_1\$ \#\{a\} \textasciitilde{}b \textasciicircum{}c \textbackslash{}d [e] "
        r"\textless{}f\textgreater{} g\textbar{}h *i*"
    )
    assert rows[1][0] == "{[}plain]"  # \\[ would be a line break with a length
    assert in_latex("*starred*") == "{*}starred*"  # and \\\\* one without a page break
    assert in_latex("--eps ---") == "-{}-eps -{}-{}-"
    assert in_latex("``it''s'' ?` !` <<") == "`{}`it'{}'s'{}' ?{}` !{}` \\textless{}\\textless{}"
    assert in_latex("a – b, 'c'") == "a -- b, 'c'"
    assert in_latex("") == ""
    assert in_latex("L∞ → 3 × 3…") == r"L$\infty$ $\rightarrow$ 3 $\times$ 3\ldots{}"


def test_user_text_is_only_text_in_markdown() -> None:
    table = pd.DataFrame({"note": [NASTY, "b"], "x": [0.5, 1.0]})
    (row,) = [line for line in markdown(table).splitlines() if line.startswith("| 50")]
    cells = re.split(r"(?<!\\)\|", row)
    assert len(cells) == 4
    assert re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", cells[1].strip()) == NASTY
    assert in_markdown("[a](http://b) <script>") == r"\[a\](http://b) \<script\>"
    assert in_markdown("two\nlines") == "two lines"


def test_long_tables_are_for_machines_unless_they_are_named(tmp_path: Path) -> None:
    tables = {"short": pd.DataFrame({"x": range(3)}), "long": pd.DataFrame({"x": range(501)})}
    files, long = save_tables(tables, tmp_path, ["csv", "latex"])
    assert [path.name for path in files] == ["short.csv", "short.tex", "long.csv"]
    assert long == ["long"]
    files, long = save_tables(tables, tmp_path, ["latex"], ["long"])
    assert ([path.name for path in files], long) == (["long.tex"], [])


def test_a_pdf_is_as_wide_as_asked_with_its_type_scaled(tmp_path: Path) -> None:
    for width, dpi in ((4, 600), (8, 300)):  # as many pixels in the picture that it holds
        save_figure(PLOT, tmp_path / f"{width}.pdf", width, dpi)
    small, whole = (tmp_path / f"{width}.pdf" for width in (4, 8))
    assert b"/MediaBox [ 0 0 288 108 ]" in small.read_bytes()
    assert b"/MediaBox [ 0 0 576 216 ]" in whole.read_bytes()
    assert b"0.5 0 0 0.5 0 0 cm" in page(small)
    assert page(small).replace(b"0.5 0 0 0.5 0 0 cm", b"1 0 0 1 0 0 cm") == page(whole)  # the same drawing


def test_a_pdf_carries_its_fonts_and_no_date(tmp_path: Path) -> None:
    save_figure(PLOT, tmp_path / "one.pdf", 5)
    save_figure(PLOT, tmp_path / "two.pdf", 5)
    content = (tmp_path / "one.pdf").read_bytes()
    assert content == (tmp_path / "two.pdf").read_bytes()
    assert b"/FontFile2" in content  # TrueType, which publishers ask for
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


@pytest.mark.parametrize(("width", "dpi"), [(6.5, 300), (3.3, 150), (11.0, 72)])
def test_a_png_has_the_pixels_of_its_size(width: float, dpi: int, tmp_path: Path) -> None:
    save_figure(PLOT, tmp_path / "one.png", width, dpi)
    save_figure(PLOT, tmp_path / "two.png", width, dpi)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == round(width * dpi)
        assert picture.height == pytest.approx(width * dpi * 3 / 8, abs=1)
        assert picture.info["dpi"] == pytest.approx((dpi, dpi), abs=0.02)
        assert set(picture.info) == {"dpi"}
        assert picture.getpixel((0, 0))[:3] == tuple(bytes.fromhex(LIGHT.paper[1:]))  # type: ignore[index]


@pytest.mark.parametrize(
    ("formats", "width", "dpi", "said"),
    [(["svg"], 5, 300, "known: pdf, png"), (["pdf"], 0, 300, "0.5 to 100 inches"), (["png"], 5, 9999, "2400 dpi")],
)
def test_figures_of_no_size_are_refused(formats: list[str], width: float, dpi: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=said):
        save_figures([PLOT], tmp_path / "figures", formats, width, dpi)
    assert not (tmp_path / "figures").exists()


def test_the_command_writes_a_folder(small: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "paper"
    tokens = ["--tables", "ranking", "--format", "latex", "markdown", "--figures", "pdf", "--width", "3.25"]
    assert call("export", str(small.path), *tokens, "--out", str(out)) == 0
    assert {path.name for path in (out / "tables").iterdir()} == {"ranking.tex", "ranking.md"}
    figures = list((out / "figures").iterdir())
    assert len(figures) > 3
    assert all(b"/MediaBox [ 0 0 234 " in path.read_bytes() for path in figures)
    assert f"{out}: {2 + len(figures)} files" in capsys.readouterr().out
    assert not (small.path / "export").exists()


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("none", [["none"], [], [""]])
def test_none_is_no_figures_and_no_tables(none: list[str], small: Tables, tmp_path: Path) -> None:
    assert call("export", str(small.path), "--out", str(tmp_path), "--tables", "ranking", "--figures", *none) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == {
        f"tables/ranking.{end}" for end in ("csv", "parquet", "tex", "md")
    }
    assert call("export", str(small.path), "--out", str(tmp_path / "x"), "--format", *none, "--figures", *none) == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("out", ["file", "file/inside", "folder"])
def test_a_folder_that_cannot_be_written_is_one_line(
    out: str, small: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "tables" / "ranking.csv").mkdir(parents=True)  # as unwritable as a file of another's
    tokens = ["--tables", "ranking", "--figures", "none", "--out", str(tmp_path / out)]
    assert call("export", str(small.path), *tokens) == 2
    captured = capsys.readouterr().err
    assert f"cannot write to {tmp_path / out}: " in captured
    assert "--out names another folder" in captured
    assert captured.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--tables", "rankings"], "did you mean ranking"),
        (["--format", "excel"], "known: csv, parquet, latex, markdown"),
        (["--figures", "svg"], "known: pdf, png"),
    ],
)
def test_wrong_wishes_are_one_line(
    tokens: list[str], said: str, small: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("export", str(small.path), "--out", str(tmp_path / "x"), *tokens) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert captured.count("\n") == 1
    assert not (tmp_path / "x").exists()

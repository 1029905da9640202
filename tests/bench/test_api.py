"""Runs from Python: the same cells as the command line's, on specs and on what lies in the process."""

import gc
import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from assay import Subject, Tables, bench, load_results, run
from assay.attacks import FGSM, PGD
from assay.attacks.gradient import BIM
from assay.bench.data import load as load_data
from assay.bench.measurements import Options
from assay.bench.models import in_memory
from assay.bench.runs.engine import Finished
from assay.bench.runs.engine import run as measure
from assay.core.errors import AssayError
from assay.explain import Saliency
from tests.bench.nets import OWN, convolutional

SPEC = OWN + "convolutional"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    out = tmp_path_factory.mktemp("api") / "run"
    return run(SPEC, "digits", attacks="fgsm(eps=0.1)", explainers=Saliency(), metrics="deletion", limit=12, out=out)


def network() -> nn.Module:
    return convolutional()[0]


def digits(n: int = 12) -> tuple[Tensor, Tensor]:
    data = load_data("digits").take(n)
    return torch.stack([data.example(i).image for i in range(n)]), torch.tensor(data.labels)


def values(tables: Tables, metric: str) -> list[float]:
    rows = tables.images[tables.images["metric"] == metric]
    return list(rows.sort_values("image")["value"])


def test_the_package_says_what_it_has() -> None:
    assert set(bench.__all__) == {"Subject", "Tables", "load_results", "run"}
    with pytest.raises(AttributeError, match="no attribute 'rum'; it has Subject, Tables, load_results, run"):
        _ = bench.rum


def test_a_run_from_python_is_the_run_of_the_command_line(small: Tables, tmp_path: Path) -> None:
    options = Options(
        models=(SPEC,),
        data=("digits",),
        attacks=("fgsm(eps=0.1)",),
        explainers=("saliency",),
        metrics=("deletion",),
        limit=12,
        gallery=0,
    )
    measure(options, tmp_path)
    pd.testing.assert_frame_equal(load_results(tmp_path).images, small.images)
    cells = [sorted(path.name for path in folder.glob("cells/*")) for folder in (tmp_path, small.path)]
    assert cells[0] == cells[1]
    assert json.loads((small.path / "run.json").read_text())["argv"] == ["assay.run"]


def test_tables_are_a_mapping_with_names_to_type(small: Tables) -> None:
    assert small.summary is small["summary"]
    assert {"summary", "ranking", "images", "failures"} <= set(small)
    assert len(small) == len(list(small)) == len(dict(small))
    assert "ranking" in dir(small)
    assert "nonsense" not in small
    assert f"Tables of {small.path}" in repr(small)
    assert small.info.options["limit"] == 12
    with pytest.raises(KeyError, match="did you mean summary"):
        small["sumary"]
    with pytest.raises(AttributeError, match="did you mean ranking"):
        _ = small.rankings


def test_a_folder_is_resumed(small: Tables) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.path.glob("cells/*")}
    states: list[str] = []

    def told(finished: Finished, done: int, total: int) -> None:
        states.append(finished.state)

    more = run(SPEC, "digits", attacks=["fgsm(eps=0.1)", BIM(steps=2)], limit=12, out=small.path, progress=told)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted(states) == ["done", "stored", "stored", "stored"]
    assert set(more.summary["method"]) == {"none", repr(FGSM(eps=0.1)), repr(BIM(steps=2))}


def test_without_a_folder_the_run_goes_with_its_tables() -> None:
    tables = run(SPEC, "digits", limit=2)
    path = tables.path
    assert (path / "run.json").is_file()
    del tables
    gc.collect()
    assert not path.exists()


def test_a_network_and_images_of_this_process_give_what_their_specs_give(small: Tables) -> None:
    own = run({"mine": network()}, {"pictures": digits()}, attacks=FGSM(eps=0.1), explainers="saliency", limit=12)
    assert set(own.summary["model"]) == {"mine"}
    assert set(own.summary["data"]) == {"pictures"}
    for metric in ("accuracy", "robust_accuracy", "deletion"):
        assert sorted(values(own, metric)) == pytest.approx(sorted(values(small, metric)), abs=1e-6)
    assert {"deletion", "insertion"} <= set(own.summary["metric"])  # unless metrics are named


def test_specs_and_subjects_stand_side_by_side() -> None:
    subject = Subject(network(), name="mine", input_size=(1, 8, 8), mean=(0.0,), std=(1.0,))
    tables = run([SPEC, subject, "mine+" + SPEC], "digits", limit=6)
    accuracy = tables.summary[tables.summary["metric"] == "accuracy"]
    assert sorted(accuracy["model"]) == sorted([SPEC, "mine", "mine+" + SPEC])
    assert accuracy["value"].nunique() == 1


@pytest.mark.parametrize("given", ["pair", "triple", "data set"])
def test_data_without_a_name_are_images(given: str, small: Tables) -> None:
    pair = digits()
    data = {"pair": pair, "triple": (*pair, tuple(map(str, range(10)))), "data set": load_data("digits").take(12)}
    tables = run(SPEC, data[given], attacks="fgsm(eps=0.1)")  # type: ignore[arg-type]
    assert set(tables.summary["data"]) == {"images"}
    for metric in ("accuracy", "robust_accuracy"):
        assert sorted(values(tables, metric)) == pytest.approx(sorted(values(small, metric)), abs=1e-6)


def test_a_tuple_of_texts_is_specs() -> None:
    assert set(run((SPEC, OWN + "linear"), ("digits",), limit=2).summary["model"]) == {SPEC, OWN + "linear"}


def test_other_weights_under_the_same_name_are_measured_again(tmp_path: Path) -> None:
    first = run({"mine": network()}, "digits", limit=6, out=tmp_path)
    other = network()
    with torch.no_grad():
        next(iter(other.parameters())).neg_()
    second = run({"mine": other}, "digits", limit=6, out=tmp_path)
    assert np.mean(values(first, "accuracy")) > 0.9 > np.mean(values(second, "accuracy"))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits


class Reversed(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


def test_a_digest_tells_weights_structure_and_own_code() -> None:
    torch.manual_seed(0)
    plain = Plain()
    reverse = Reversed()
    reverse.load_state_dict(plain.state_dict())
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
    smooth = nn.Sequential(nn.Flatten(), layers[1], nn.GELU())
    digests = [
        in_memory.subject("n", one, input_size=(1, 8, 8)).digest for one in (plain, plain, reverse, layers, smooth)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_the_network_and_the_threads_are_left_as_they_were() -> None:
    mine, threads = network().train(), torch.get_num_threads()
    run({"mine": mine}, {"pictures": digits(4)}, attacks="fgsm", jobs=1)
    assert all(module.training for module in mine.modules())
    assert all(parameter.requires_grad for parameter in mine.parameters())
    assert torch.get_num_threads() == threads
    with pytest.raises(AssayError, match="unknown model 'mine'"):
        run("mine", "digits")


def test_records_stand_for_their_texts(tmp_path: Path) -> None:
    tables = run(SPEC, "digits", attacks=(PGD(eps=0.1, steps=2), "fgsm"), limit=2, out=tmp_path)
    assert tables.info.options["attacks"] == [repr(PGD(eps=0.1, steps=2)), "fgsm"]
    assert {repr(PGD(eps=0.1, steps=2)), repr(FGSM())} <= set(tables.summary["method"])


def test_a_config_file_is_a_start(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(f'models = ["{SPEC}"]\ndata = ["digits"]\nattacks = ["fgsm"]\nlimit = 3\ngallery = 0\n')
    tables = run(config=config, attacks=[], seed=5)
    assert (tables.info.seed, tables.info.options["limit"]) == (5, 3)
    assert set(tables.summary["kind"]) == {"clean"}


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_written_when_asked_for(tmp_path: Path) -> None:
    run(SPEC, "digits", attacks="fgsm", limit=3, out=tmp_path, report=True)
    assert (tmp_path / "report" / "index.html").is_file()


def test_what_fails_is_a_warning_and_a_row() -> None:
    class Fragile(Plain):
        def forward(self, images: Tensor) -> Tensor:
            if images.requires_grad:
                raise RuntimeError("no gradients today")
            return super().forward(images)

    with pytest.warns(UserWarning, match="1 cells or images failed; the table failures says why"):
        tables = run({"mine": Fragile()}, {"pictures": digits(3)}, attacks="fgsm")
    assert "no gradients today" in tables.failures["reason"].iloc[0]


class Locked(Plain):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("said", "models", "data", "settings"),
    [
        ("which models", None, None, {}),
        ("a network needs a name", Plain(), None, {}),
        ("'digits' means something else", SPEC, {"digits": digits()}, {}),
        ("'resnet18' means something else", {"resnet18": Plain()}, "digits", {}),
        ("'zoo:mine' has other characters", {"zoo:mine": Plain()}, "digits", {}),
        ("other processes do not see", {"mine": Plain()}, "digits", {"engine": "processes"}),
        ("known: local, processes", SPEC, "digits", {"engine": "cloud"}),
        ("did you mean limit", SPEC, "digits", {"limits": 3}),
        ("did you mean pgd", SPEC, "digits", {"attacks": "pdg"}),
        ("no attack that its text tells", SPEC, "digits", {"attacks": [Saliency()]}),
        ("one an image", SPEC, {"mine": (digits()[0], digits()[1][:2])}, {}),
        ("normalisation belongs in the model", SPEC, {"mine": (digits()[0] + 1, digits()[1])}, {}),
        ("labels run from 0 to 9, classes are 0 to 1", SPEC, {"mine": (*digits(), ("a", "b"))}, {}),
        ("this model takes", "zoo:linear", {"mine": digits()}, {}),
        ("fails on images of", {"mine": nn.Conv2d(3, 1, 9)}, "digits", {}),
        ("mine cannot be copied", {"mine": Locked()}, "digits", {}),
        ("known: full, quick, standard", SPEC, "digits", {"preset": "thorough"}),
    ],
)
def test_wrong_wishes_are_one_line(said: str, models: object, data: object, settings: dict[str, object]) -> None:
    with pytest.raises(AssayError) as refused:
        run(models, data, **settings)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def named() -> Subject:
    return Subject(Plain(), name="mine", input_size=(1, 8, 8), mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(
    ("said", "models", "data"),
    [
        ("a network needs a name: run({'mine': network})", [SPEC, Plain()], "digits"),
        ("2 models are called 'mine'", [named(), named()], "digits"),
        ("2 models are called 'mine'", [named(), "mine"], "digits"),
        (f"a spec is its own name: run({SPEC!r})", {"mine": SPEC}, "digits"),
        ("'mine' is function; a name is of an nn.Module", {"mine": network}, "digits"),
        ("int is no model", [5], "digits"),
        ("models are specs, or names with what they stand for, not int", 5, "digits"),
        ("models are given, but none is in them", [], "digits"),
        ("names of models are texts, not 5", {5: Plain()}, "digits"),
        ("mine: data are a DataSet, (images, labels) or (images, labels, ", SPEC, {"mine": 5}),
        ("not str; a spec is its own name", SPEC, {"mine": "digits"}),
        ("not 1 parts", SPEC, (torch.zeros(1, 1, 8, 8),)),
        ("not a list with Tensor", SPEC, [*digits()]),
        ("not a list with Pictures", SPEC, ["digits", in_memory.pictures("mine", *digits())]),
        ("data are given, but none is in them", SPEC, {}),
        ("data are given, but none is in them", SPEC, ()),
        ("images and labels are tensors or arrays", SPEC, ([["a"]], [0])),
        ("classes are names", SPEC, (*digits(), "0123456789")),
        ("images must be float", SPEC, ((digits()[0].numpy() * 255).astype("uint8"), digits()[1].numpy())),
    ],
)  # fmt: skip
def test_nothing_that_is_given_is_dropped_or_replaced(said: str, models: object, data: object) -> None:
    with pytest.raises(AssayError) as refused:
        run(models, data, limit=2)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_run_is_no_tables(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no run at"):
        load_results(tmp_path)

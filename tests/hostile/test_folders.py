"""Hostile data: folders, splits, names, generated sets and those of torchvision."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import nn

from tests.hostile.kit import FACTS, MODEL, RUN, Grey, Hostile, pictures, write

OWN = "py:tests.hostile.test_folders:"
NAMES = (
    "\N{CAT FACE}", "a b", "<script>x", '"quoted"', "100%", "a&b=c", "new\nline", "tab\there", "-rf", "x" * 250,
    "back\\slash", "\u202egnp", "e\N{COMBINING ACUTE ACCENT}", "C:", "a#1",
)  # fmt: skip


def twelve() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(12), FACTS


def many() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(len(NAMES)), FACTS


def thousand() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(1000), FACTS


def cat_dog() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(), {**FACTS, "classes": ("cat", "dog")}


def zero_one() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(), {**FACTS, "classes": ("0", "1")}


def twins() -> tuple[nn.Module, dict[str, Any]]:
    return Grey(3), {**FACTS, "classes": ("hot dog", "Hot_Dog", "cat")}


def on(data: str, model: str = MODEL) -> list[str]:
    return [*RUN, "--models", model, "--data", data]


def style(content: str) -> list[str]:
    return ["train", "style", "s.png", "--content", content, "--steps", "1", "--out", "t.safetensors"]


def made(*names: str, root: str = "data") -> Callable[[], Path]:
    """A folder with two pictures for each name."""
    return partial(pictures, root, names)


def files(*names: str, content: bytes = b"x") -> Callable[[], None]:
    def make() -> None:
        for name in names:
            write(name, content)

    return make


def both(*makes: Callable[[], object]) -> Callable[[], None]:
    def make() -> None:
        for each in makes:
            each()

    return make


def deep(levels: int) -> None:
    folder = Path("data", "a", *("d" * (levels - 1)))
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "x.png")


D = "folder:data"
NO_FOLDER = (
    Hostile("no-path", on("folder:"), "which folder"),
    Hostile("no-colon", on("folder"), "which folder"),
    Hostile("nowhere", on("folder:nowhere"), "nowhere is not a folder"),
    Hostile("a-file", on("folder:f"), "f is not a folder", files("f")),
    Hostile("nul", on("folder:a\0b"), "holds a NUL"),
    Hostile("long-name", on("folder:" + "a" * 5000), "is not a folder"),
    Hostile("long-path", on("folder:" + "a/" * 5000), "is not a folder"),
    Hostile("nobodys-home", on("folder:~nobody-of-that-name/x"), "is not a folder"),
    Hostile("question", on("folder:data?split=test"), "is not a folder", made("a", "b")),
    Hostile("empty", on("folder:."), "holds no class folders"),
    Hostile("only-files", on("folder:."), "holds no class folders", files("a.png", "b.png")),
    Hostile("only-hidden", on(D), "holds no class folders", files("data/.git/a.png")),
    Hostile("empty-classes", on(D), "no pictures in the folders of data$", files("data/a/.x", "data/b/.y")),
    Hostile("only-heic", on(D), r"no pictures in the folders of data; .* 2 \.heic",
            files("data/a/1.heic", "data/b/2.HEIC")),
    Hostile("only-a-macs", on(D), "no pictures in the folders", files("data/a/._1.png", "data/b/._2.png")),
    Hostile("too-deep", on(D), "more than 64 deep", partial(deep, 70)),
    Hostile("far-too-deep", on(D), "more than 64 deep", partial(deep, 400)),
)  # fmt: skip
SPLITS = (
    Hostile("capitals", on(D), r"splits \(Test, Train\).*name one: folder:data/Test", made("Train/a", "Test/a")),
    Hostile("annotations", on(D), r"splits \(train, val\)",
            both(made("train/a", "val/a"), files("data/annotations/x.json"))),
    Hostile("one-split", on(D), r"splits \(train\)", made("train/a", "train/b")),
    Hostile("one-split-beside", on(D), r"splits \(TEST\)", both(made("TEST/a"), files("data/labels/x.txt"))),
    Hostile("coco", on(D), r"splits \(train2017, val2017\)", made("train2017", "val2017")),
    Hostile("flat", on(D), r"splits \(testing, training\)", made("training", "testing")),
    Hostile("three", on(D), "name one: folder:data/test", made("test/a", "train/a", "valid/a")),
    Hostile("flat-masks", on(D), "masks holds pictures itself", made("a", "b", "masks")),
    Hostile("only-masks", on(D), "masks holds pictures itself", made("masks")),
)  # fmt: skip
LABELS = (
    Hostile("other-names", on(D, OWN + "cat_dog"), "labels would not match.*'ant', 'bee'", made("ant", "bee")),
    Hostile("one-other-name", on(D, OWN + "cat_dog"), "such as 'hound'.*'hound'$", made("cat", "hound")),
    Hostile("more-names", on(D, OWN + "cat_dog"), "no class of the model.*'eel'", made("cat", "dog", "eel")),
    Hostile("numbers-are-names", on(D, OWN + "zero_one"), "such as 'cat'.*such as '0'", made("cat", "dog")),
    Hostile("names-and-numbers", on(D, OWN + "cat_dog"), "such as '0'.*such as 'cat'", made("0", "1")),
    Hostile("not-one-alone", on(D, OWN + "twins"), "not one alone: 'HOT DOG'", made("HOT DOG", "cat")),
    Hostile("two-for-one", on(D, OWN + "cat_dog"), "not one alone: 'Cat', 'cat'", made("Cat", "cat")),
    Hostile("no-order", on(D), "'Cat' and 'cat' have no order", made("Cat", "cat")),
    Hostile("no-order-of-numbers", on(D), "'01' and '1' have no order", made("01", "1")),
    Hostile("three-of-two", on(D), "has 3 classes and .* 2: labels would not match", made("a", "b", "c")),
    Hostile("one-of-two", on(D), "has 1 classes and .* 2: labels would not match", made("a")),
    Hostile("empty-ones-count", on(D), "4 classes, 1 of them without pictures, and .* 2",
            both(made("a", "b", "c"), files("data/d/x.txt"))),
    Hostile("numbers-too-high", on(D), "has 3 classes and", made("1", "5", "9")),
    Hostile("no-wnid", on(D, OWN + "thousand"), "n00000001 is no class of imagenet-1k", made("n00000001", "n01484850")),
    Hostile("three-of-1000", on(D, OWN + "thousand"), "such as 'a'.*such as 'tench'", made("a", "b", "c")),
    Hostile("of-two-data-sets", [*on(D), "scenes"], "scenes are drawn at 96x96", made("a", "b")),
)  # fmt: skip
READ = (
    Hostile("named", on(D, OWN + "cat_dog"), "match but for case.*'CAT' is 'cat', 'Dog' is 'dog'",
            made("CAT", "Dog"), 0),
    Hostile("numbered", on(D, OWN + "twelve"), "folders are their numbers, 0 to 11", made(*map(str, range(12))), 0),
    Hostile("some-numbers", on(D, OWN + "twelve"), "folders are their numbers, 3 to 11", made("3", "11"), 0),
    Hostile("from-one", on(D, OWN + "twelve"), "timm's order, which is not torchvision's, '1' 0, '2' 1",
            made(*map(str, range(1, 13))), 0),
    Hostile("ordered", on(D), "timm's order, 'a' 0, 'b' 1", made("a", "b"), 0),
    Hostile("a-class-without", on(D), "without pictures: 'b'.*not read: 1 .heic",
            both(made("a", "c"), files("data/b/x.heic")), 0),
    Hostile("loose", on(D), "beside the class folders, which are of no class: 1",
            both(made("a", "b"), files("data/x.png")), 0),
    Hostile("wnids", on(D, OWN + "thousand"), "0 failed$", made("n01484850", "n01518878"), 0),
    Hostile("a-trailing-slash", on("folder:data//"), "0 failed$", made("a", "b"), 0),
    Hostile("dots", on("folder:./data/../data"), "0 failed$", made("a", "b"), 0),
    Hostile("a-folder-like-a-picture", on(D), "0 failed$", both(made("a", "b"), made("a/x.png")), 0),
    Hostile("a-train-among-others", on(D), "0 failed$", made("bus", "train"), 0),
    Hostile("deep", on(D), "0 failed$", both(partial(deep, 60), made("b")), 0),
)  # fmt: skip
GENERATED = (
    *(
        Hostile(name, on(spec), line)
        for name, spec, line in (
            ("far-too-many", "scenes?n=99999999999",
             "n=99999999999 is not a whole number of at least 1 and at most 1000000"),
            ("400-digits", f"scenes?n={'9' * 400}", "n=9+ is not a whole number"),
            ("5000-digits", f"scenes?seed={'9' * 5000}", "seed=9+ is not a whole number"),
            ("no-images", "scenes?n=0", "n=0 is not"),
            ("fewer", "scenes?n=-1", "n=-1 is not"),
            ("a-float", "scenes?n=1e3", "n=1e3 is not"),
            ("wide-digits", "scenes?n=\uff11\uff12", "is not a whole number"),
            ("no-value", "scenes?n=", "option 'n' needs one value"),
            ("twice", "scenes?n=1&n=2", "option 'n' needs one value"),
            ("no-option", "scenes?m=1", "unknown option of scenes"),
            ("a-path", "scenes:x", "options follow a question mark"),
            ("a-split", "scenes?split=Train", "did you mean train"),
            ("a-shortcut", "scenes?shortcut=maybe", "known: none, agrees, lies"),
            ("digits-split", "digits?split=val", "unknown split 'val'"),
            ("digits-option", "digits?n=3", "unknown option of digits"),
            ("kind", "imagefolder:x", "unknown data set"),
            ("kind-in-capitals", "FOLDER:x", "x is not a folder"),
            ("nothing", "", "unknown data set"),
            ("a-colon", ":", "unknown data set"),
            ("a-nul", "\0", "holds a NUL"),
            ("torchvision-alone", "torchvision", "unknown set of torchvision"),
            ("torchvision-set", "torchvision:ImageNet22k?root=.", "did you mean ImageNet"),
            ("torchvision-rootless", "torchvision:MNIST", "where is it"),
            ("torchvision-split", "torchvision:MNIST?root=.&split=val", "unknown split of MNIST"),
            ("torchvision-nowhere", "torchvision:CIFAR10?root=nowhere", "finds no CIFAR10 in nowhere"),
            ("torchvision-nul", "torchvision:CIFAR10?root=a\0b", "holds a NUL"),
            ("torchvision-long", f"torchvision:CIFAR10?root={'a' * 5000}", "finds no CIFAR10"),
            ("torchvision-unsplit", "torchvision:SEMEION?root=.&split=test", "has no splits"),
        )
    ),
)  # fmt: skip
PLACES = tuple(
    Hostile(name, ["attack", MODEL, source, "--method", "fgsm"], line, made("a", "b"))
    for name, source, line in (
        ("beyond", f"{D}#99", "has pictures 0 to 3"),
        ("before", f"{D}#-1", "has pictures 0 to 3"),
        ("no-number", f"{D}#x", "has pictures 0 to 3"),
        ("no-data", "folder:nowhere#0", "is not a folder"),
        ("many-digits", f"{D}#{'9' * 5000}", "has pictures 0 to 3"),
    )
)
CONTENT = tuple(
    Hostile(name, style(where), line, make)
    for name, where, line, make in (
        ("nowhere", "nowhere", "no pictures in nowhere: nowhere is not a folder", None),
        ("a-file", "f", "no pictures in f", files("f")),
        ("none", "c", "no pictures in c", files("c/x/.y")),
        ("heic", "c", r"no pictures in c; .* 1 \.heic", files("c/x.heic")),
        ("text", "c", r"c/x\.jpg cannot be decoded", files("c/x.jpg")),
        ("deep", "data", "more than 64 deep", partial(deep, 70)),
        ("long", "a" * 5000, "no pictures in", None),
        ("nul", "a\0b", "holds a NUL", None),
    )
)


def link(name: str, target: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(target)


def pipe(name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(name)


def odd_bytes() -> None:
    pictures("data", ("a", "b"))
    Path("data/a/0.png").rename(os.fsdecode(b"data/a/\xff\xfe.png"))
    Path("data/b").rename(os.fsdecode(b"data/\xe9"))


OF_LINUX = (
    Hostile("proc", on("folder:/proc"), "is the system's"),
    Hostile("proc-self", on("folder:/proc/self"), "is the system's"),
    Hostile("sys", on("folder:/sys"), "is the system's"),
    Hostile("a-link-to-proc", on("folder:p"), "is the system's", partial(link, "p", "/proc")),
    Hostile("content-of-proc", style("/proc"), "is the system's"),
    Hostile("a-pipe", on("folder:p"), "p is not a folder", partial(pipe, "p")),
    Hostile("a-pipe-as-content", style("p"), "no pictures in p", partial(pipe, "p")),
    Hostile("a-pipe-in-content", style("c"), "no regular file", partial(pipe, "c/x.png")),
    Hostile("a-link-to-nothing", on("folder:p"), "p is not a folder", partial(link, "p", "nowhere")),
    Hostile("a-link-to-itself", on("folder:p"), "p is not a folder", partial(link, "p", "p")),
    Hostile("a-loop", on(D), "0 failed$", both(made("a", "b"), partial(link, "data/a/loop", "../a")), 0),
    Hostile("a-link-up", on(D), "0 failed$", both(made("a", "b"), partial(link, "data/a/up", "../..")), 0),
    Hostile("a-link-to-all", on(D), "without pictures: 'c'", both(made("a", "b"), partial(link, "data/c", "/")), 0),
    Hostile("pipes", on(D), "1 images cannot be read", both(made("a", "b"), partial(pipe, "data/a/x.png")), 1),
    Hostile("devices", on(D), "1 images cannot be read",
            both(made("a", "b"), partial(link, "data/a/x.png", "/dev/zero")), 1),
    Hostile("dangling", on(D), "1 images cannot be read", both(made("a", "b"), partial(link, "data/a/x.png", "no")), 1),
    Hostile("mask-pipes", on(D), "0 failed$", both(made("a", "b"), partial(pipe, "data/masks/a/0.png")), 0),
    Hostile("odd-names", on(D, OWN + "many"), "0 failed$", made(*NAMES), 0),
    Hostile("no-utf-8", on(D), "0 failed$", odd_bytes, 0),
)  # fmt: skip
GROUPS: dict[str, Sequence[Hostile]] = {
    "folder": NO_FOLDER, "split": SPLITS, "labels": LABELS, "read": READ, "generated": GENERATED, "place": PLACES,
    "content": CONTENT, "linux": OF_LINUX if sys.platform == "linux" else (),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{group}-{case}") for group, cases in GROUPS.items() for case in cases]
)
def test_hostile_data(case: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.name != "odd-names":  # of which pages are made, too
        monkeypatch.setattr("assay.reports.write", lambda folder: folder)
    Image.new("RGB", (16, 16), (9, 99, 200)).save("s.png")
    if case.status == 2:
        case.check()
    else:
        ending = replace(case, line="").check()
        assert any(re.search(case.line, line) for line in ending.out), ending

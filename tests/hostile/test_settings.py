"""Methods as text, numbers and options of ``assay run``, and the words of other commands."""

import os
import random

import pytest

from tests.hostile.kit import MODEL, NOTHING, Hostile, command, pictures

BARE = ["run", *NOTHING, "--models", MODEL, "--data", "folder:pictures"]
KINDS = {"attacks": "fgsm", "explainers": "saliency", "metrics": "deletion", "syntheses": "visualize"}
WORDS = r"only numbers, fractions, words and lists of them are read"
UNREADABLE = r"cannot read the settings of 'pgd\(.*write setting=value"

METHODS = (  # text of an attack, and what is told
    ("", "cannot read ''; write name or name"),
    ("()", "cannot read"),
    ("pgd(", "cannot read"),
    ("pgd)", "cannot read"),
    ("pgd()x", "cannot read"),
    ("pgd(eps=0.1))", UNREADABLE),
    ("pgd\x1b[31m", r"cannot read 'pgd\\x1b\[31m'"),
    ("pgd(eps=\x1b)", r"cannot read the settings of 'pgd\(eps=\\x1b\)'"),
    ("pgd(goal='\x1b[2J')", r"goal='\\x1b\[2J' is not untargeted"),
    ("é", "unknown attack 'é'; known: fgsm"),
    ("\N{RIGHT-TO-LEFT OVERRIDE}pgd", r"cannot read '\\u202epgd'"),
    (os.fsdecode(b"\xe9"), r"cannot read '\\udce9'"),
    ("x" * 100_000, r"unknown attack 'x{59} \.\.\. x+'; known: fgsm"),
    ("pgd(" + "(" * 500 + ")" * 500 + ")", UNREADABLE),
    ("pgd(eps=" + "[" * 90 + "]" * 90 + ")", r"PGD: eps=\(+ \.\.\. .* is not float"),
    ("pgd(eps=" + "[" * 100_000 + "]" * 100_000 + ")", UNREADABLE),
    ("pgd(eps=" + "-" * 3000 + "1)", UNREADABLE),
    ("pgd(eps=" + "-" * 100_000 + "1)", UNREADABLE),
    ("pgd(eps=" + "1/" * 3000 + "1)", UNREADABLE),
    ("pgd(eps=" + ".".join("a" * 3000) + ")", UNREADABLE),
    ("fgsm(" + "x=1, " * 3000 + ")", r"'fgsm\(x=1, .*: x is given twice"),
    ("pgd(eps=0.1, eps=0.2)", "eps is given twice"),
    ("pgd(eps=1" + "0" * 400 + ")", "whole numbers go to 1000000000"),
    ("pgd(eps=1" + "0" * 5000 + ")", UNREADABLE),
    ("pgd(eps=1" + "0" * 400 + "/3)", "whole numbers go to 1000000000"),
    ("pgd(eps=1e308/1e-308)", "between 0 and 1"),
    ("pgd(eps=1/1" + "0" * 400 + ")", "whole numbers go to 1000000000"),
    ("pgd(steps=1" + "0" * 400 + ")", "whole numbers go to 1000000000"),
    ("pgd(restarts=99999999999)", "whole numbers go to 1000000000"),
    ("square(queries=99999999999)", "whole numbers go to 1000000000"),
    ("fgsm(goal=99999999999)", "whole numbers go to 1000000000"),
    ("pgd(steps=1e400)", "PGD: steps=inf is not int"),
    ("pgd(eps=1e400)", "eps=inf must be between 0 and 1"),
    ("pgd(eps=-1e400)", "eps=-inf must be between 0 and 1"),
    ("pgd(eps=nan)", "eps='nan' is not float"),
    ("pgd(eps=1j)", "eps=1j is not float"),
    ("pgd(eps=b'a')", "eps=b'a' is not float"),
    ("pgd(eps=None)", "eps=None is not float"),
    ("pgd(eps=...)", "eps=Ellipsis is not float"),
    ("pgd(eps=True)", "eps=True is not float"),
    ("pgd(eps='0.1')", "eps='0.1' is not float"),
    ("pgd(eps=[0.1, a])", "eps='a' is not float"),
    ("pgd(eps=[[]])", r"eps=\(\) is not float"),
    ("pgd(eps=[])", r"eps=\[\] names no value"),
    ("pgd(eps=1/0)", "division by zero"),
    ("pgd(eps=f(1))", WORDS),
    ("pgd(eps=__import__('os'))", WORDS),
    ("pgd(eps={1: 2})", WORDS),
    ("pgd(eps=lambda: 0)", WORDS),
    ("pgd(eps=1 if 1 else 2)", WORDS),
    ("pgd(eps=[x for x in y])", WORDS),
    ("pgd(eps=2**9999999)", WORDS),
    ("pgd(eps=f'{1}')", WORDS),
    ("pgd(**{})", "every setting needs its name"),
    ("pgd(*a)", "every setting needs its name"),
    ("pgd(1)", "every setting needs its name"),
    ("pgd(steps=0)", "steps=0 must be above 0"),
    ("pgd(steps=-1)", "steps=-1 must be above 0"),
    ("pgd(norm=l3)", "norm='l3' is not one of linf, l2, l1"),
    ("fgsm(goal=-1)", "goal=-1 is not"),
    ("fgsm(goal=1.0)", "goal=1.0 is not"),
    ("fgsm(goal=True)", "goal=True is not"),
    ("fgsm(goal=[[1]])", r"goal=\(1,\) is not"),
    ("fgsm(goal=7)", "has classes 0 to 1"),
    ("py:os:system('x')", "cannot read"),
    (
        f"pgd(eps=[{', '.join(f'{i}/5000' for i in range(99))}], steps=[{', '.join(map(str, range(1, 99)))}])",
        "PGD: the lists of its settings stand for 9702 methods; 500 at most",
    ),
)

OPTIONS = (  # what is typed after a sound command, and what is told
    (["--attacks", "fgsm", "--eps", *(f"{i}/5000" for i in range(3000))], "words are too many; 2000 at most"),
    (["--attacks", "fgsm", "--eps", *(f"{i}/5000" for i in range(501))], "stand for 501 methods; 500 at most"),
    (["--attacks", "fgsm", "--eps", "1" + "0" * 400], "whole numbers go to 1000000000"),
    (["--attacks", "fgsm", "--eps", "1" + "0" * 5000], "cannot read '1000.*write a number"),
    (["--attacks", "fgsm", "--eps", "[" * 500], "cannot read '.*write a number"),
    (["--attacks", "fgsm", "--eps", "1/" * 2000 + "1"], "cannot read '1/1/.*write a number"),
    (["--attacks", "fgsm", "--eps", "nan"], "'nan' is not a number"),
    (["--attacks", "fgsm", "--eps", ""], "cannot read ''; write a number"),
    (["--attacks", "fgsm", "--eps", "True"], "True is not a number"),
    (["--attacks", "fgsm", "--eps", "1 2"], "cannot read '1 2'"),
    (["--attacks", "fgsm", "--eps", "a" * 100_000], "is not a number"),
    (["--attacks", "fgsm", "--norms", ""], "unknown norm ''"),
    (["--limit", "0"], "limit=0 must be at least 1"),
    (["--limit", "1" + "0" * 400], "limit=10+ .* must be below 2 .. 63"),
    (["--limit", "nan"], "--limit"),
    (["--limit", "\N{SUPERSCRIPT TWO}"], "--limit"),
    (["--seed", "1" + "0" * 400], "seed=10+ .* must be below 2 .. 63"),
    (["--seed", "-1" + "0" * 400], "seed=-10+ .* must be at least -9223372036854775808"),
    (["--seed", "\ud800"], r"--seed: unable to convert .*ud800"),
    (["--calibration-bins", "1" + "0" * 30], "must be below 2 .. 63"),
    (["--jobs", "-1"], "jobs=-1 must be at least 1, 1000 at most; one per core unless given"),
    (["--jobs", "0"], "jobs=0 must be at least 1"),
    (["--jobs", "1" + "0" * 30], "jobs=1000000000000000000000000000000 must be at least 1, 1000 at most"),
    (["--jobs", "999999"], "1000 at most"),
    (["--batch-size", "0"], "batch_size=0 must be at least 1"),
    (["--device", "cpu:5"], "device 'cpu:5' is not here; use auto, cpu"),
    (["--device", "cpu:x"], "device 'cpu:x' is not here"),
    (["--device", "cuda:99"], "device 'cuda:99' is not here"),
    (["--device", "meta"], "device 'meta' is not here"),
    (["--device", ""], "device '' is not here"),
    (["--device", "\x1b[31m"], r"device '\\x1b\[31m' is not here"),
    (["--preset", "../quick"], r"unknown preset '\.\./quick'; did you mean quick"),
    (["--preset", ""], "unknown preset ''"),
    (["--config", "x" * 300], "cannot read x+: File name too long"),
    (["--config", "pictures"], "cannot read pictures: Is a directory"),
    (["--config", "nowhere\x00"], r"'nowhere\\x00' holds a NUL, which no name does"),
    (["--out", "x" * 300], "cannot write to x+: File name too long; --out names another folder"),
    (["--out", "pictures/a/0.png"], "cannot write to pictures/a/0.png: it is a file; --out names another folder"),
    (["--out", "pictures/a/0.png/x"], "cannot write to pictures/a/0.png/x: Not a directory"),
    (["--out", os.fsdecode(b"lat\xe9")], r"cannot write to lat\\xe9: its name is not UTF-8"),
    (["--out", "a\x00b"], r"'a\\x00b' holds a NUL, which no name does"),
    (["--nonsense"], "Unknown option"),
    (["--limit"], "requires an argument"),
    (["surplus\x1b"], r"'surplus\\x1b'"),
)

COMMANDS = (  # of other commands
    (["list"], "list what\\? models, attacks, explainers, metrics, syntheses, data, presets"),
    (["list", "x" * 300], "unknown kind 'x+ .* known: models"),
    ([""], "Unknown command"),
    (["fly\x1b[2J"], r"fly\\x1b\[2J"),
    (["attack", MODEL, "x" * 300], "no picture at x+; give a file, or DATA#NUMBER"),
    (["attack", MODEL, "pictures"], "no picture at pictures"),
    (["attack", MODEL, ""], "no picture at ;"),
    (["attack", MODEL, "folder:pictures#" + "9" * 5000], "has pictures 0 to 3, not '9+ .*'"),
    (["attack", MODEL, "folder:pictures#-1"], "has pictures 0 to 3, not '-1'"),
    (["attack", MODEL, "folder:pictures#1", "--label", "9" * 5000], "unknown class '9+"),
    (["attack", MODEL, "folder:pictures#1", "--method", "pgd(" + "[" * 500], "cannot read"),
    (["attack", MODEL, "folder:pictures#1", "--method", "pgd(steps=[1, 2])"], "is 2 attacks; write one"),
    (["attack", MODEL, "folder:pictures#1", "--out", "pictures/a/0.png"], "it is a file; --out names another folder"),
    (["explain", MODEL, "folder:pictures#1", "--method", "saliency", "--out", "x" * 300], "File name too long"),
    (["explain", MODEL, "folder:pictures#1", "--label", "2"], "has classes 0 to 1, not 2"),
    (["synthesize", "visualize", MODEL, "9" * 5000], "'9+ .*' is no class"),
    (["synthesize", "visualize", MODEL, "0", "--size", "0", "9"], "--size 0 9 must be 1 or more"),
    (["synthesize", "visualize", MODEL, "0", "--size", "9", "99999999"], "32768 at most"),
    (["synthesize", "dream", "zoo:resnet", "pictures/a/0.png", "--longest", "99999999"], "32768 at most"),
    (["synthesize", "texture", "x" * 300], "no picture at"),
    (["inspect", MODEL, "x" * 300], "unknown part"),
    (["inspect", MODEL, "filters", "--out", "pictures/a/0.png"], "it is a file; --out names another folder"),
    (["train", "linear", "--out", "pictures/a/0.png"], "it is a file; --out names another folder"),
    (["train", "linear", "--cache", "pictures/a/0.png/x"], "Not a directory"),
    (["train", "linear", "--seed", "1" + "0" * 30], "--seed 10+ is no number of 64 bits"),
    (["train", "x" * 300], "unknown zoo model"),
)

CASES = (
    *(Hostile(f"attack-{i}", [*BARE, "--attacks", text], line, pictures) for i, (text, line) in enumerate(METHODS)),
    *(Hostile(f"option-{i}", [*BARE, *words], line, pictures) for i, (words, line) in enumerate(OPTIONS)),
    *(Hostile(f"command-{i}", words, line, pictures) for i, (words, line) in enumerate(COMMANDS)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_setting_is_one_line(case: Hostile) -> None:
    case.check()


def test_text_of_any_letters_is_read_or_refused() -> None:
    """A fuzzer: methods of each table, with letters put in, taken out and doubled."""
    rng = random.Random(20)
    pictures()
    for _ in range(40):
        option, name = rng.choice(list(KINDS.items()))
        text = list(f"{name}(steps=2, eps=[1/255, 0.5], goal=a.b, layer='x')")
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(3)] = rng.choices(
                "()[]{}=,./'\"\\-*#:@\n\x00\x1b é9e\ud800\U0001f600", k=rng.randrange(3)
            )
        others = [word for word in BARE if word != f"--{option}"]
        ending = command(*others, f"--{option}", "".join(text))
        assert (ending.status, len(ending.err)) == (2, 1), text

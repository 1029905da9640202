"""Files of settings and of tolerances."""

from functools import partial

import pytest

from tests.hostile.kit import MODEL, NOTHING, Hostile, broken, command, pictures, write

SOUND = f'models = ["{MODEL}"]\ndata = ["folder:pictures"]\nattacks = ["fgsm"]\n'
BARE = [word for word in NOTHING if word not in ("--metrics", "--syntheses")]
RUN = ["run", *BARE, "--config", "my.toml", "--out", "run"]
DEPTH = 100_000

SETTINGS = (  # what the file of --config holds, and what is told
    (b"models = [", "my.toml is no TOML"),
    (b"{}", "my.toml is no TOML"),
    (b"\x00", "my.toml is no TOML"),
    (b"limit = 1\nlimit = 2", "my.toml is no TOML: Cannot overwrite a value"),
    (b"limit = 1\n[limit]\nx = 1", "my.toml is no TOML"),
    (b"limit = 1\xff", "cannot read my.toml: 'utf-8' codec"),
    ("limit = 1".encode("utf-16"), "cannot read my.toml: 'utf-8' codec"),
    (b"models = " + b"[" * DEPTH + b"]" * DEPTH, "my.toml is no TOML: it is nested too deeply"),
    (b"a = " + b"{a=" * DEPTH, "my.toml is no TOML: it is nested too deeply"),
    (b"[" + b"a." * 3000 + b"a]\nb = 1", "my.toml is no TOML|unknown option 'a'"),
    (b"limit = 1" + b"0" * 5000, "my.toml is no TOML"),
    (b"limit = 1" + b"0" * 400, "limit=10+ .* must be below"),
    (b"limit = -1", "limit=-1 must be at least 1"),
    (b"limit = 1.5", "limit=1.5 is not int"),
    (b"limit = nan", "limit=nan is not int"),
    (b"limit = true", "limit=True is not int"),
    (b"limit = 'ten'", "limit='ten' is not int"),
    (b"limit = [1]", r"limit=\(1,\) is not int"),
    (b"limit = 2020-01-01", r"limit=datetime.date\(2020, 1, 1\) is not int"),
    (b"[limit]\nx = 1", r"limit=\{'x': 1\} is not int"),
    (b"eps = [nan]", "eps=nan must be between 0 and 1"),
    (b"eps = [-inf]", "eps=-inf must be between 0 and 1"),
    (b"eps = [[0.1]]", r"eps=\(\[0.1\],\) is not"),
    (b"eps = ['1/0']", "division by zero"),
    (b"eps = ['" + b"-" * DEPTH + b"1']", "cannot read '-+ .*write a number"),
    (b"models = []\neps = [0." + b"1" * DEPTH + b"]", "a run needs"),
    (("eps = [" + ", ".join(str(i / 5000) for i in range(3000)) + "]").encode(), "3000 methods; 500 at most"),
    (b"eps = 0.1", r"eps=0.1 is not tuple\[float \| str, ...\]"),
    (b"models = 'zoo:linear'", r"models='zoo:linear' is not tuple\[str, ...\]"),
    (b"models = [5]", r"models=\(5,\) is not"),
    (b"models = []", "a run needs at least one model"),
    (b'models = ["a\\u0000b"]', r"models=\('a\\x00b',\) holds a NUL, which no name does"),
    (b'data = ["folder:\\u0000"]', r"data=\('folder:\\x00',\) holds a NUL"),
    (b'data = ["\\u001b[2J"]', r"unknown data set '\\x1b\[2J'"),
    (b"modelz = []", "unknown option 'modelz'; did you mean models"),
    (b"[run]\nmodels = []", "unknown option 'run'"),
    (b"'' = 1", "unknown option ''"),
    (b"'\xe2\x80\xae' = 1", r"unknown option '\\u202e'"),
    (b"out = 'x'", "unknown option 'out'"),
    (b"attacks = ['pgd(']", "cannot read 'pgd\\('"),
    (b"attacks = ['fgsm', {}]", "is not tuple"),
    (b"metrics = ['deletion(steps=0)']", "steps=0"),
    (b"syntheses = ['drawing']", "unknown synthesis 'drawing'"),
)

TOLERANCES = (  # what the file of --tolerances holds, and what is told
    (b"[[metric]]\nabsolute = 'x'", r"my.toml, \[\[metric\]\] 1: absolute='x' is not float"),
    (b"[[metric]]\nabsolut = 1", r"my.toml, \[\[metric\]\] 1: unknown key 'absolut'; did you mean absolute"),
    (b"[metric]\nabsolute = 1", r"write \[\[metric\]\] in two brackets"),
    (b"metric = [1]", r"my.toml: \[\[metric\]\] 1 is a table"),
    (b"same = 1", r"my.toml: \[same\] is a table"),
    (b"[[metric]]\nabsolute = -1", "absolute = -1 must be at least 0"),
    (b"[[metric]]\nabsolute = nan", "absolute = nan must be at least 0"),
    (b"[[metric]]\nstatistical = 2", "is a level between 0 and 1"),
    (b"[[picture]]\npicture = 'x'", "unknown sort of picture 'x'"),
    (b"[metrics]", "unknown table 'metrics'"),
    (b"x = " + b"[" * DEPTH, "my.toml is no TOML: it is nested too deeply"),
    (b"\xff", "cannot read my.toml"),
)
CHECK = ["check", "run", "--baseline", "run", "--tolerances", "my.toml"]


def config(text: bytes) -> None:
    """The file, with sound values of what it does not name."""
    sound = (line for line in SOUND.splitlines() if line.partition(" ")[0].encode() not in text)
    write("my.toml", "\n".join([*sound, ""]).encode() + text)
    pictures()


CASES = (
    *(Hostile(f"settings-{i}", RUN, line, partial(config, text)) for i, (text, line) in enumerate(SETTINGS)),
    *(Hostile(f"tolerances-{i}", CHECK, line, partial(write, "my.toml", t)) for i, (t, line) in enumerate(TOLERANCES)),
    Hostile("mark", [*RUN, "--limit", "1"], "report: ", lambda: write("my.toml", "\ufeff" + SOUND) and pictures(), 0),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_file_is_one_line(case: Hostile) -> None:
    case.check()


def test_damaged_files_are_one_line() -> None:
    """A fuzzer; what stays sound asks for a model that is not there."""
    text = b"eps = [0.1, '1/255']\nlimit = 10\nattacks = ['fgsm(eps=1/255)']\n# \xc3\xa9\n"
    for content in broken(text, 40, seed=21):
        write("my.toml", content)
        ending = command(*RUN, "--models", "zoo:none")
        assert (ending.status, len(ending.err)) == (2, 1), content

"""What a caller can do something about: one line that says what is wrong and what would be right."""

import difflib
from collections.abc import Iterable

LONG = 80  # letters of a value in a message


class AssayError(ValueError):
    """A wrong input. The command line prints the message on one line and exits with ``status``."""

    status = 2


class NotApplicable(AssayError):
    """A method that has no meaning on this model or data: a skipped row, not a failure."""


def unknown(kind: str, name: str, options: Iterable[str]) -> AssayError:
    """The error for a name that is not in ``options``, nearest names first."""
    names = list(options)
    lower = {option.lower(): option for option in names}
    near = [lower[match] for match in difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listing = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return AssayError(f"unknown {kind} {brief(name)}; {hint}known: {listing}")


def brief(value: object) -> str:
    """The repr of a value, its middle left out where it is long."""
    try:
        text = repr(value)
    except Exception:  # whole numbers of thousands of digits have none, and objects may do as they like
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONG else f"{text[: LONG - 20]} ... {text[-15:]}"

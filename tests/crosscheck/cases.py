"""Which attacks of ours and of the other libraries do the same, and the settings with which they spend the same.

Everything stands at each library's defaults but the steps, and the length of PGD's: the defaults of the others cannot
cross the ball in so few steps, so they follow the rule of Madry et al. 2018, 2.5 eps / steps.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.crosscheck.peers import ORDERS, Run, adv_lib, foolbox, torchattacks

STEPS = 20
LONG = 40  # steps to the nearest image
WALK = 20  # steps of FAB: two passes forward and one backward for each other class
QUERIES = 200


class Bounded(NamedTuple):
    """Attacks inside a ball; ours without steps takes as many as cost what the others spend."""

    ours: str
    norm: str
    peers: Mapping[str, Callable[[float], Run]]  # by name, from eps


class Nearest(NamedTuple):
    """Attacks that look for the nearest image, on the first ``images``."""

    ours: str
    norm: str
    peers: Mapping[str, Run]
    images: int = 100


def pgd(library: Callable[..., Run], kind: str) -> Callable[[float], Run]:
    def made(eps: float) -> Run:
        step = 2.5 * eps / STEPS
        names = {"foolbox": ("eps", "abs_stepsize"), "torchattacks": ("eps", "alpha")}
        radius, length = names.get(library.__name__, ("ε", "absolute_step_size"))
        return library(kind, **{radius: eps, length: step}, steps=STEPS)

    return made


def apgd(norm: str) -> dict[str, Callable[[float], Run]]:
    peers: dict[str, Callable[[float], Run]] = {
        "adv-lib": lambda eps: adv_lib("apgd", eps=eps, norm=ORDERS[norm], n_iter=STEPS, loss_function="ce")
    }
    if norm != "l1":
        peers["torchattacks"] = lambda eps: torchattacks("APGD", norm=norm.title(), eps=eps, steps=STEPS)
    return peers


def square(norm: str) -> dict[str, Callable[[float], Run]]:
    return {"torchattacks": lambda eps: torchattacks("Square", norm=norm.title(), eps=eps, n_queries=QUERIES)}


def fmn(norm: str) -> dict[str, Run]:
    return {
        "foolbox": foolbox({"linf": "LInf"}.get(norm, norm.title()) + "FMNAttack", steps=LONG),
        "adv-lib": adv_lib("fmn", norm=ORDERS[norm], steps=LONG),
    }


def fab(norm: str) -> dict[str, Run]:
    """In L1 torchattacks' raises."""
    peers = {"adv-lib": adv_lib("fab", norm=ORDERS[norm], n_iter=WALK)}
    if norm != "l1":
        peers["torchattacks"] = torchattacks("FAB", norm=norm.title(), eps=1e9, steps=WALK)
    return peers


BOUNDED = (
    Bounded(
        "pgd",
        "linf",
        {
            "torchattacks": pgd(torchattacks, "PGD"),
            "foolbox": pgd(foolbox, "LinfPGD"),
            "adv-lib": pgd(adv_lib, "pgd_linf"),
        },
    ),
    Bounded(
        "pgd",
        "l2",
        {"torchattacks": pgd(torchattacks, "PGDL2"), "foolbox": pgd(foolbox, "L2PGD")},
    ),
    *(Bounded("apgd", norm, apgd(norm)) for norm in ("linf", "l2", "l1")),
    *(Bounded(f"square(queries={QUERIES})", norm, square(norm)) for norm in ("linf", "l2")),
)

NEAREST = (
    Nearest(
        f"ddn(steps={LONG})",
        "l2",
        {"foolbox": foolbox("DDNAttack", steps=LONG), "adv-lib": adv_lib("ddn", steps=LONG, levels=None)},
    ),
    *(Nearest(f"fmn(norm={norm}, steps={LONG})", norm, fmn(norm)) for norm in ORDERS),
    *(Nearest(f"fab(norm={norm}, steps={WALK}, search=0)", norm, fab(norm), 24) for norm in ("linf", "l2", "l1")),
)

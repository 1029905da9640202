"""A page for each model: what it knows, what fools it, where it looks, what it has learned."""

from collections.abc import Iterable, Iterator
from typing import Any

from assay.reports.context import Context
from assay.reports.kinds import all_kinds
from assay.reports.kinds.base import Block, Part, records
from assay.reports.run.flags import SHARED, name_of, raised
from assay.reports.run.reader import where
from assay.reports.site.notes import pretty

MAIN = ("spec", "about", "arch", "architecture", "parameters", "input_size", "accuracy", "digest")
LEFT_OUT = ("name", "sha256")
LONGEST = 160  # letters of a fact


def pages(context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and content of each model's page."""
    flags = raised(context.run.rows, ["model"])
    for model, mark in context.marks.items():
        main, rest = facts(context, model)
        yield (
            context.files.models[model],
            {
                "mark": mark,
                "label": mark.label,
                "facts": main,
                "more": rest,
                "on": [
                    (context.specs[data], blocks) for data in context.run.data if (blocks := _on(context, model, data))
                ],
                "parts": merge(part for kind in all_kinds() for part in kind.parts(context, model)),
                "failures": records(where(context.tables["failures"], model=model)),
                "flags": sorted({flag for flag in where(flags, model=model)["flag"] if name_of(flag) != SHARED}),
            },
        )


def facts(context: Context, model: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What ``run.json`` tells of a model, as names and texts: the main facts, and the rest of its card."""
    known = context.run.info.models.get(model, {})
    card = known.get("card")
    values: dict[str, Any] = dict(card) if isinstance(card, dict) else {}
    values |= {key: known.get(key) for key in ("spec", "parameters", "input_size", "digest")}
    texts = {key: pretty(value) for key, value in values.items() if value not in (None, "", {}, []) and _short(value)}
    rest = [key for key in texts if key not in (*MAIN, *LEFT_OUT)]
    main, more = (
        [(key.replace("_", " ").capitalize(), texts[key]) for key in keys if key in texts] for keys in (MAIN, rest)
    )
    return main, more


def merge(parts: Iterable[Part]) -> list[Part]:
    """Parts of one id as one, with the title of the first."""
    whole: dict[str, Part] = {}
    for part in parts:
        blocks = whole[part.id].blocks if part.id in whole else []
        whole[part.id] = whole.get(part.id, part)._replace(blocks=[*blocks, *part.blocks])
    return list(whole.values())


def _short(value: object) -> bool:
    return isinstance(value, str | int | float | dict | list) and len(str(value)) < LONGEST


def _on(context: Context, model: str, data: str) -> list[Block]:
    """A model on one data set: its place among the others, then what each kind says; empty where it has no place."""
    rank = records(context.table("ranking", data, model=model))
    if not rank:
        return []
    share = context.run.metric(rank[0]["quality_metric"]).unit == "share"
    blocks = [block for kind in all_kinds() for block in kind.on_model(context, model, data)]
    return sorted([*blocks, Block("numbers", {"rank": rank[0], "share": share}, 1)], key=lambda block: block.place)

"""What a report is made of, read from a run once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from assay.reports import frames, landscape, learned_models, moved, names, pictures, remade
from assay.reports.look import Identity, identities
from assay.reports.site.files import Files
from assay.reports.stored import Results

ALWAYS = ("norm", "eps")  # settings that a method's short name always tells


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Results, tables, the marks of the models, and what cells kept that pages and figures show."""

    results: Results
    tables: dict[str, pd.DataFrame]
    album: pictures.Album

    @cached_property
    def marks(self) -> dict[str, Identity]:
        """Each model's label, colour and marker, the same everywhere."""
        return identities(names.models(self.results.models))

    @cached_property
    def specs(self) -> dict[str, str]:
        """The label of each data set."""
        return names.data(self.results.data)

    @cached_property
    def short(self) -> Callable[[str], str]:
        """A method's short name."""
        brief = names.short((cell["method"] for cell in self.results.info["cells"]), always=ALWAYS)
        return lambda method: brief.get(method) or names.short([method], always=ALWAYS)[method]

    @cached_property
    def files(self) -> Files:
        """The page of each model, method and data set."""
        return Files.of(self.results)

    @cached_property
    def labels(self) -> dict[tuple[str, str], str]:
        """The class's name of an image, by data set and id."""
        rows = self.results.rows[self.results.rows["kind"].isin(["data", "clean"])]
        rows = rows.drop_duplicates(["data", "image"]).dropna(subset="label")
        classes = {spec: facts.get("classes") or [] for spec, facts in (self.results.info.get("data") or {}).items()}
        return {
            (data, image): str(classes[data][label]) if 0 <= label < len(classes.get(data, ())) else str(label)
            for data, image, label in zip(rows["data"], rows["image"], rows["label"], strict=True)
        }

    @cached_property
    def lands(self) -> list[landscape.Landscape]:
        return landscape.landscapes(self.results, self.album)

    @cached_property
    def moved(self) -> list[moved.Scene]:
        return moved.scenes(self.results, self.album)

    @cached_property
    def learned(self) -> list[learned_models.Learned]:
        return learned_models.read(self.results, self.album)

    @cached_property
    def remade(self) -> list[remade.Remade]:
        return remade.read(self.results, self.album)

    @cached_property
    def galleries(self) -> list[pictures.Gallery]:
        return pictures.galleries(self.results, self.album)

    @cached_property
    def classes(self) -> list[pictures.ClassPictures]:
        return pictures.class_pictures(self.results, self.album)

    @cached_property
    def nothing(self) -> list[pictures.ClassPictures]:
        return pictures.class_pictures(self.results, self.album, "fooling")

    @cached_property
    def thumbnails(self) -> dict[tuple[str, str], pictures.Picture]:
        """The picture of an image, by data set and id, where the run kept it."""
        return pictures.thumbnails(self.results, self.album)


def gather(results: Results, folder: Path) -> Gathered:
    """``folder`` is where pictures are written once a page asks for them."""
    return Gathered(results=results, tables=frames.tables(results), album=pictures.Album(folder))

"""Pictures that a model draws when asked for a class."""

from assay.reports.drawing.class_pictures import class_kind

KIND = class_kind(
    "synthesis",
    heading="Class pictures",
    alt="What the model draws for",
    place="classes",
    text="What the model draws when asked for a class. “Own” is the probability the model itself gives its picture, "
    "“other” the mean of what the other models give it. Where own is high and other low, the picture shows what "
    "fools its maker, not what the class looks like.",
)

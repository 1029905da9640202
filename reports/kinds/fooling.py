"""Images made from nothing that a model is sure of."""

from assay.reports.drawing.class_pictures import class_kind

KIND = class_kind(
    "fooling",
    heading="Fooling images",
    alt="What the model takes for",
    place="nothing",
    text="Images made from nothing until the model is sure of a class (Nguyen et al. 2015). “Own” is the probability "
    "that the model itself gives the class, “other” the mean of what the other models give it: high and low "
    "together is a certainty that means nothing.",
)

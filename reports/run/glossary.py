"""What flags, statuses and the reports' own numbers mean."""

from assay.reports.run.cross_attack_checks import CHECKS

FLAGS = {
    "batch-dependent": "An image's logits change with the images beside it: attacks in batches attack something else.",
    "boundary": "The outcome lies within float noise of the decision boundary and may differ on another machine.",
    "completeness-gap": "The map's sum misses the target's rise over the baseline by more than a twentieth of it: more "
    "steps would come nearer.",
    "gates": "Guided gradients need ReLUs; the number is the share of the model's activations that are.",
    "gradient-in-forward": "The model turns gradients on inside its forward pass, so what an attack differentiates is "
    "not what it thinks.",
    "incomplete": "The loss still moved by more than a twentieth of its range in the last ten steps: more steps would "
    "find more.",
    "lost-at-8-bit": "The attacked image fools the model, but no longer once it is rounded to 8 bits, as in a file.",
    "no-derivative": "The map has no derivative by the image, so that an attack on it by gradients cannot be tried.",
    "non-finite": "The method returned values that are not numbers.",
    "non-finite-logits": "The model answered with values that are not numbers.",
    "not-repeatable": "The model answers differently when asked again, so one answer says little.",
    "out-of-range": "The attack left the range of images; the result was clipped before it was judged.",
    "over-budget": "The attack changed more than it may; it does not count as a success.",
    "probabilities": "The model gives probabilities, not logits: where they saturate, gradients vanish.",
    "shared": "One pass of the model served so many explainers; the cost of each is an even share.",
    "silent-success": "The attack passed an image that fools within its budget and returned another: it is stronger "
    "than its numbers.",
    "unchanged": "The attack returned an image that it should fool as it was.",
    "wrong-shape": "The method returned something of another shape than the images.",
    "zero-gradient": "Most gradients were exactly zero, so an attack that follows them went nowhere: robustness may be "
    "an illusion.",
    **{check.flag: check.words for check in CHECKS if check.flag},
}
STATUSES = {
    "failed": "Went wrong, and is not in the numbers it concerns. A whole cell is tried again by the next run, "
    "an image once its file has changed.",
    "skipped": "Has no meaning for this model or data, so it is left out.",
    "missing": "Planned but not run yet.",
}
OWN = {
    "optimality": {
        "direction": "none",
        "unit": "share",
        "statistic": "area",
        "interval": "",
        "meaning": "How close an attack without a budget comes to the smallest changes that any attack of the run "
        "found, by the area under its curve of robust accuracy: 1 where nothing lies between it and the best curve, 0 "
        "for an attack that finds nothing (Cina et al. 2024).",
    }
}

"""Classifiers by spec, and what each of them is: their digest, normalisation and classes.

``specs`` loads them: from ``checkpoints``, from the zoo's ``weights`` with ``cards``, from timm's ``hub``;
``in_memory`` lends those of this process;
``generators`` are no classifiers, but are loaded and told apart in the same way.
"""

from assay.bench.models.cards import read_card as read_card
from assay.bench.models.checkpoints import fill as fill
from assay.bench.models.digest import digest_of as digest_of
from assay.bench.models.specs import load as load
from assay.bench.models.subject import Averaged as Averaged
from assay.bench.models.subject import Fit as Fit
from assay.bench.models.subject import Subject as Subject
from assay.bench.models.subject import ensemble as ensemble
from assay.bench.models.weights import ZOO as ZOO
from assay.bench.models.weights import create as create
from assay.bench.models.weights import zoo_names as zoo_names

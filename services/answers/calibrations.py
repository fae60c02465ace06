"""Calibrations at hand, so that a judgement is not counted again for every question."""

import threading
from collections import OrderedDict

from schemas.decision import ClassifyOptions
from schemas.errors import NotJudged
from schemas.judgement import Judgement
from services.decision.calibration import Calibration, calibrate

KEPT = 64
DECISIVE = {"vote", "alpha", "temperature", "k", "level", "prune", "prune_above"}
"""The options that a calibration depends on."""


class Calibrations:
    """The calibrations that were last asked for; a judgement has another id with each pass, and so others.

    What is kept are two lists of at most 1,000 numbers each, without anything that names an image.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Calibration] = OrderedDict()
        self._turn = threading.Lock()

    def __call__(self, judgement: Judgement | None, options: ClassifyOptions) -> Calibration:
        """What a judgement says of a question's options.

        Raises:
            NotJudged: there is no judgement, or it is of a memory without two images to compare.
        """
        if judgement is None:
            raise NotJudged(
                "unknown_above and coverage need a judgement of the memory, and there is none that counts:"
                " judge the memory first, with 'visual-memory judge'"
            )
        key = (judgement.id, options.model_dump_json(include=DECISIVE))
        with self._turn:  # of several who ask for the same, one counts
            if key not in self._kept:
                self._kept[key] = calibrate(judgement.sample, options)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            found = self._kept[key]
        if not len(found.distances):
            raise NotJudged(
                "unknown_above and coverage compare images of the memory with each other, and when it was judged no"
                " two of them could vote: add images, then judge it again, with 'visual-memory judge'"
            )
        return found

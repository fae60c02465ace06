"""The explanations that the API and the workers offer, built on one memory and its stored decisions."""

from collections.abc import Callable
from dataclasses import dataclass

from visual_memory.services.classification.classify import Classify
from visual_memory.services.decisions.explanations.classify_stored_query import ClassifyAgain
from visual_memory.services.decisions.explanations.counterfactual import FindCounterfactual
from visual_memory.services.decisions.explanations.influence import MeasureInfluence
from visual_memory.services.decisions.explanations.intervention_preview import PreviewIntervention
from visual_memory.services.decisions.explanations.replay import ReplayDecision
from visual_memory.services.decisions.stored_decisions import StoredDecisions


@dataclass(frozen=True)
class Explain:
    """One use case for each kind of explanation."""

    replay: ReplayDecision
    counterfactual: FindCounterfactual
    preview: PreviewIntervention
    influence: MeasureInfluence

    @classmethod
    def of(cls, classify: Classify, decisions: StoredDecisions, classify_by: Callable[[str], Classify]) -> "Explain":
        """Build all of them.

        Args:
            classify: by the vectors of the active encoder.
            decisions: to explain.
            classify_by: by those of another encoder, by its name; raises `EncoderMismatch` for an unknown one.
        """
        again = ClassifyAgain(classify, classify_by)
        return cls(
            replay=ReplayDecision(again, decisions),
            counterfactual=FindCounterfactual(again, decisions),
            preview=PreviewIntervention(again, decisions),
            influence=MeasureInfluence(classify.memory, decisions),
        )

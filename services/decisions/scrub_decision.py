"""Take removed images out of a stored decision, without a trace of them.

The votes are counted again without the removed images. So the decision stays a pure function of the neighbours that it
shows, and no share or label reveals how a removed image voted. The label may change by this; `scrubbed` counts the
removed neighbours. A replay shows what today's memory decides, with other neighbours in their place.
"""

import base64
from collections.abc import Set as AbstractSet

import numpy as np

from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.decide import decide

FLOATS = "<f4"
SAME = 1 - 1e-5
"""From this cosine similarity on, a neighbour's vector counts as the query's, or as a multiple of it."""


def scrubbed(stored: StoredDecision, image_ids: AbstractSet[str]) -> StoredDecision:
    """A decision as if some images had not been among its neighbours."""
    decision = stored.decision
    left = [
        neighbour.model_copy(update={"reliability": 1.0})  # removed images may have caused wrong votes
        for neighbour in decision.neighbours
        if neighbour.image_id not in image_ids
    ]
    gone = len(decision.neighbours) - len(left)
    counted = decide(left, stored.options, decision.encoder, truncated=decision.truncated)
    counted = counted.model_copy(update={"id": decision.id})
    if not left:
        counted = counted.model_copy(update={"reason": "every image that voted is gone"})
    return stored.model_copy(update={"decision": counted, "scrubbed": stored.scrubbed + gone}) if gone else stored


def queried_with(stored: StoredDecision, image_ids: AbstractSet[str]) -> bool:
    """Whether the query's vector is that of one of some images; images that did not vote are not compared."""
    return any(each.similarity > SAME and each.image_id in image_ids for each in stored.decision.neighbours)


def query_vector(stored: StoredDecision) -> Vectors:
    """The query's vector, float32 [dimension]."""
    return np.frombuffer(base64.b64decode(stored.query), FLOATS).astype(np.float32)

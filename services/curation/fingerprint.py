"""The fingerprint of a memory: tells, at little cost, whether it was changed since it was judged.

It holds how many images are remembered and how many carry each label; whether any was accepted since is counted. What
it does not notice: images that exchange their labels, and one that is muted for another of its labels that is unmuted.

Until a memory is judged anew, what came since has given no wrong votes, and another picture under the same id has those
of the one before.
"""

import json
from hashlib import sha256

from schemas.filter import Clause, FieldType
from schemas.image import State
from schemas.judgement import Judgement
from services.memory.memory import Memory

REMEMBERED = Clause("state", FieldType.KEYWORD, (State.REMEMBERED.value,))


def fingerprint(memory: Memory, tenant: str) -> str:
    """The fingerprint of a tenant's memory at this moment, SHA-256 in hex."""
    held = [memory.count(tenant, [REMEMBERED]), memory.count_labels(tenant, [REMEMBERED])]
    return sha256(json.dumps(held).encode()).hexdigest()


def is_stale(memory: Memory, tenant: str, judgement: Judgement) -> bool:
    """Whether a tenant's memory was changed since the judgement; it counts until the next one or a removal."""
    since = Clause("accepted_at", FieldType.DATETIME, bounds={"gte": judgement.made_at})
    return fingerprint(memory, tenant) != judgement.fingerprint or memory.count(tenant, [REMEMBERED, since]) > 0

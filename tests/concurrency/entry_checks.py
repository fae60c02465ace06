"""What must hold of entries of the intake: each ends once, and none is accepted that is older than what removes it."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from tests.concurrency.history import Call, History, Payload
from tests.support.wired_service import METADATA
from visual_memory.schemas.filter import Filter, matches
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.removal.refused_intake_entries import is_at_or_before
from visual_memory.services.removal.values_named_in_filters import may_cover_text

ENDS = {"remembered", "rejected", "removed", "dead"}
LETTERS = {"dead", "rejected"}
"""Ends after which a removal may still take a dead letter."""
SAID = ("subject", "source")


class Entries:
    """Of one schedule, with what became of them and of the removals."""

    def __init__(self, history: History, removals: list[Call]) -> None:
        self._history = history
        self._removals = removals
        self._said = history.results
        self._calls: dict[str, Call] = {call.result: call for call in history.of("queue") if call.result}

    def _end(self, entry: str) -> str:
        """How an entry ended; a reader may say that it is held up when that is over."""
        return next((each for each in self._said.get(entry, []) if each in ENDS), "")

    def named_by(self, removal_id: str) -> set[str]:
        """The image ids that entries name which a removal took."""
        taken = self._history.refused.get(removal_id, {})
        return {self._calls[each].said["image_id"] for each in taken if "image_id" in self._calls[each].said}

    def contents_of(self, removal_id: str) -> dict[str, int]:
        """The contents of entries that a removal took, with the step at which it did."""
        taken = self._history.refused.get(removal_id, {})
        known = ((self._calls[entry].said, step) for entry, step in taken.items())
        return {said["hash"]: step for said, step in sorted(known, key=itemgetter(1), reverse=True) if "hash" in said}

    def lost(self) -> Iterator[str]:
        """Entries that have no end or several, and accepted ones whose image is gone without a removal."""
        service = self._history.service
        for page in service.streams.entries_up_to(service.tenant, service.streams.last_id(service.tenant)):
            yield from (f"entry {each.id} waits for ever" for each in page)
        for entry, call in self._calls.items():
            said = self._said.get(entry, [])
            if len([each for each in said if each in ENDS]) != 1:
                yield f"entry {entry} of {call.said} ended as {said}"
            elif (
                self._end(entry) == "removed"
                and "accepted" not in said
                and not any(self._refuses(each, entry, call) for each in self._removals)
            ):
                yield f"entry {entry} of {call.said} was refused, and no removal meets it"
            elif self._end(entry) == "remembered" and not self._is_there(call):
                yield f"entry {entry} of {call.said} was remembered, and is gone"

    def returned(self) -> Iterator[str]:
        """Images that are there, and dead letters, of entries that are older than a removal which they meet."""
        service = self._history.service
        for removal in self._removals:
            for entry, call in self._older(removal):
                held = self._history.held.get(call.said.get("image_id", ""))
                if held is None or held["content_hash"] != call.said["hash"] or self._came_again(call):
                    continue
                if self._meets(removal, call) and "accepted" not in self._said.get(entry, []):
                    yield f"entry {entry} of {call.said} is older than removal by {removal.said}, and was accepted"
                elif all(held.get(name) == call.said.get(name) for name in SAID) and self._means(removal, call):
                    yield f"entry {entry} of {call.said} is there, after removal by {removal.said}"
            dead = {letter.entry for letter in service.streams.dead(service.tenant)}
            for entry, call in self._older(removal):
                if entry in dead and self._meets(removal, call):
                    yield f"the dead letter of {call.said} is there, after removal by {removal.said}"

    def miscounted(self) -> Iterator[str]:
        """Receipts that do not say of each entry that it was taken; of two that take it by its image one is enough."""
        for removal in self._removals:
            taken = self._history.refused.get(removal.result.id, {})
            queued = self._history.service.removal(removal.result.id).queued
            if queued != len(taken):
                yield f"removal by {removal.said} says that it took {queued} entries, and took {len(taken)}"
            _, position = self._history.recorded[removal.result.id]
            for entry in taken:
                if self._end(entry) not in {"removed", *LETTERS}:
                    yield f"removal by {removal.said} counts entry {entry}, which ended as {self._said.get(entry)}"
                if not self._means(removal, self._calls[entry]):
                    yield f"removal by {removal.said} took entry {entry} of {self._calls[entry].said}"
                if not is_at_or_before(entry, position):
                    yield f"removal by {removal.said} took entry {entry}, which is later"
            for entry, call in self._older(removal):
                if entry not in taken and self._meets(removal, call) and self._had_to_meet(removal, entry, call):
                    yield f"removal by {removal.said} does not count entry {entry} of {call.said}"

    def _had_to_meet(self, removal: Call, entry: str, call: Call) -> bool:
        """Whether an older entry was removed only after a removal was recorded, and by none that refuses it itself."""
        if self._end(entry) != "removed" or "accepted" in self._said[entry]:
            return False
        recorded, _ = self._history.recorded[removal.result.id]
        if by := [taken[entry] for taken in self._history.refused.values() if entry in taken]:
            return min(by) > recorded
        return not any(self._refuses(each, entry, call) for each in self._removals if each is not removal)

    def _older(self, removal: Call) -> Iterator[tuple[str, Call]]:
        _, position = self._history.recorded[removal.result.id]
        return ((entry, call) for entry, call in self._calls.items() if is_at_or_before(entry, position))

    def _means(self, removal: Call, call: Call) -> bool:
        """Whether a removal means it, or an image that it names and of which it says nothing else."""
        if self._meets(removal, call) or call.said.get("image_id") not in self._covered(removal):
            return self._meets(removal, call)
        clauses = Filter.model_validate(removal.said["filter"]).clauses(METADATA)
        return matches([each for each in clauses if each.field in {*call.said, "labels"}], _image(call))

    def _meets(self, removal: Call, call: Call) -> bool:
        condition = Filter.model_validate(removal.said["filter"])
        if "text" in call.said:
            return may_cover_text(condition, call.said["text"])
        return matches(condition.clauses(METADATA), _image(call))

    def _covered(self, removal: Call) -> set[str]:
        """The image ids that a removal covers, in the memory or the intake."""
        noted = self._history.noted.get(removal.result.id, ())
        return {each["image_id"] for each in self._versions() if each["picture"] in noted} | self.named_by(
            removal.result.id
        )

    def _refuses(self, removal: Call, entry: str, call: Call) -> bool:
        """Whether a removal took it, or refuses it from then on."""
        taken = self._history.refused.get(removal.result.id, {})
        if entry in taken or not removal.said["block"]:
            return entry in taken
        noted = self._history.noted.get(removal.result.id, ())
        contents = {each["content_hash"] for each in self._versions() if each["picture"] in noted}
        contents |= self.contents_of(removal.result.id).keys()
        return call.said.get("hash") in contents or removal.said["filter"].get("subject") in self._subjects(call)

    def _subjects(self, call: Call) -> set[str]:
        """Those that its image may have had: where none is said, it keeps that which is there."""
        if "image_id" not in call.said or "subject" in call.said:
            return {call.said[name] for name in ("subject",) if name in call.said}
        mine = (each for each in self._versions() if each["image_id"] == call.said["image_id"])
        return {each["subject"] for each in mine if each.get("subject")}

    def _versions(self) -> Iterator[Payload]:
        return (each for change in self._history.changes for each in (change.before, change.after) if each)

    def _is_there(self, call: Call) -> bool:
        """Whether its image, or another under its id, is there, or was before a removal noted it."""
        image_id, content = call.said["image_id"], call.said["hash"]
        was = any(
            each["image_id"] == image_id and (each["state"] == State.REMEMBERED or each["content_hash"] != content)
            for each in self._versions()
        )
        return image_id in self._history.held or (
            was and any(image_id in self._covered(each) for each in self._removals)
        )

    def _came_again(self, call: Call) -> bool:
        """Whether the same content was sent under its id otherwise."""
        return any(
            other.said.get("image_id") == call.said["image_id"] and other.said.get("hash") == call.said["hash"]
            for other in (*self._history.of("queue"), *self._history.of("send"))
            if other is not call
        )


def _image(call: Call) -> StoredImage:
    said: dict[str, Any] = {name: call.said[name] for name in SAID if name in call.said}
    return StoredImage(
        image_id=call.said["image_id"],
        tenant="",
        labels=call.said.get("labels", ["cat"]),
        state=State.WAITING,
        accepted_at=now(),
        content_hash=call.said["hash"],
        picture="",
        **said,
    )

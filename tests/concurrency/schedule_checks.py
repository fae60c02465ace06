"""What must hold after every schedule, once everything has come to its end; each violation is a sentence."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.concurrency.entry_checks import Entries
from tests.concurrency.history import ACCEPTED, Call, Change, History, Payload
from tests.support.wired_service import METADATA
from visual_memory.schemas.filter import Filter, matches
from visual_memory.schemas.image import State, has_picture
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalStatus
from visual_memory.services.data_governance.remove_expired_images import REQUESTER
from visual_memory.services.memory.points.point_payload import to_image

ENDED = {State.REMEMBERED.value, State.REJECTED.value, State.MUTED.value}
AMENDABLE = ("subject", "source", "labels", "metadata")


@dataclass
class Violations:
    """What was lost, what came back or was left, and which receipts are wrong."""

    lost: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.lost or self.returned or self.receipts)

    def __str__(self) -> str:
        named = (("lost", self.lost), ("returned", self.returned), ("receipt", self.receipts))
        return "\n".join(f"{name}: {each}" for name, some in named for each in some)


def violations(history: History) -> Violations:
    """All promises, held against a history and what is there at its end."""
    entries = entries_of(history)
    return Violations(
        [*_lost_images(history), *_lost_amendments(history), *_lost_votes(history), *entries.lost()],
        [*_returned(history), *_unblocked(history), *_left(history), *entries.returned()],
        [*_wrong_receipts(history), *_made_twice(history), *entries.miscounted()],
    )


def entries_of(history: History) -> Entries:
    """The entries of the intake."""
    return Entries(history, _removals(history))


def _meets(condition: dict[str, object], payload: Payload) -> bool:
    return matches(Filter.model_validate(condition).clauses(METADATA), to_image(payload))


def _removals(history: History) -> list[Call]:
    """Those that were recorded, also where their client never heard of it, and those of retention."""
    heard = [call for call in history.of("remove") if call.result is not None]
    known = {call.result.id for call in heard}
    calls = [next(call for call in heard if call.result.id == removal_id) for removal_id in sorted(known)]
    unheard = [call for call in history.of("remove") if call.result is None and call.may_count]
    for removal in history.service.removals():
        if removal.id in known:
            continue
        if removal.requested_by == REQUESTER.name:
            step = next(
                (each.step for each in history.changes if each.at >= removal.requested_at), history.scheduler.step
            )
            said = {"filter": {"expires_at": {"lte": removal.requested_at.isoformat()}}, "block": False, "key": ""}
            calls.append(Call("remove", said, step, "", removal.requested_at, step, ACCEPTED, removal))
        else:
            [call] = [each for each in unheard if each.begun_at <= removal.requested_at]
            calls.append(replace(call, result=removal))
    return calls


def _lost_images(history: History) -> Iterator[str]:
    """Images that were answered 202 and are neither there, nor replaced, nor removed by somebody who might."""
    versions = history.versions()
    for call in history.of("send"):
        if call.answer != ACCEPTED:
            continue
        image_id, content_hash = call.said["image_id"], call.said["hash"]
        held = history.held.get(image_id)
        if held is not None and held["content_hash"] == content_hash:
            if held["state"] not in ENDED:
                yield f"{image_id} waits for ever"
            continue
        gone = [
            change
            for change in history.changes
            if change.before and change.before["image_id"] == image_id and change.before["content_hash"] == content_hash
            if change.step >= call.begun and (change.after is None or change.after["content_hash"] != content_hash)
            if not _is_taken_back(versions[change.before["picture"]])
        ]
        if not gone:
            yield f"{image_id} was answered 202 and was never there"
        elif not _is_excused(history, call, gone[-1]):
            yield f"{image_id} was answered 202 at step {call.ended}, and taken at {gone[-1].step} by {gone[-1].actor}"


def _is_excused(history: History, call: Call, gone: Change) -> bool:
    """Whether what took an image may do so: another content under its id, or a removal that covered it."""
    assert gone.before is not None
    if gone.after is not None:
        return True
    marker = gone.before.get("removal")
    for removal in _removals(history):
        if marker == removal.result.id:
            marked = [
                change
                for change in history.changes
                if change.after
                and change.after["image_id"] == gone.before["image_id"]
                and change.after["picture"] == gone.before["picture"]
                and change.after.get("removal") == marker
                and (change.before is None or change.before.get("removal") != marker)
            ]
            named = gone.before["image_id"] in entries_of(history).named_by(removal.result.id)
            if not marked or not (named or _meets(removal.said["filter"], marked[-1].after or {})):
                return False
            written = [  # by this very call, when it was marked already: it had to be refused
                change
                for change in history.changes
                if change.actor == call.actor
                and call.begun <= change.step <= call.ended
                and marked[-1].step < change.step
                and change.after
                and change.after["picture"] == gone.before["picture"]
            ]
            return not written
    return False


def _lost_amendments(history: History) -> Iterator[str]:
    """Fields that do not have the value that somebody set last."""
    queued = {call.said.get("image_id") for call in history.of("queue")}
    for image_id, held in history.held.items():
        if image_id in queued:
            continue
        appeared = max(
            change.step
            for change in history.changes
            if change.after
            and change.after["image_id"] == image_id
            and change.after["picture"] == held["picture"]
            and (change.before is None or change.before["picture"] != held["picture"])
        )
        writers = [
            call
            for call in history.calls
            if call.kind in ("send", "amend") and call.said["image_id"] == image_id and call.may_count
            if call.ended >= appeared and (call.kind == "amend" or call.said["hash"] == held["content_hash"])
        ]
        for name in AMENDABLE:
            said = [call for call in writers if name in call.said]
            answered = [call for call in said if call.answer == ACCEPTED]
            last = [call for call in said if not any(other.begun > call.ended for other in answered)]
            if answered and held.get(name) not in [call.said[name] for call in last]:
                told = [(call.said[name], call.begun, call.ended) for call in last]
                yield f"{name} of {image_id} is {held.get(name)!r}, and was set to {told}"


def _lost_votes(history: History) -> Iterator[str]:
    """Who votes, and does not, or the other way round."""
    voters = {each.image_id for each in history.service.ask(0, group_by="none").neighbours}
    expected = {
        image_id
        for image_id, held in history.held.items()
        if held["state"] == State.REMEMBERED and not to_image(held).has_expired(now())
    }
    yield from (f"{image_id} does not vote" for image_id in sorted(expected - voters))
    yield from (f"{image_id} votes" for image_id in sorted(voters - expected))


def _made_twice(history: History) -> Iterator[str]:
    made: dict[str, set[str]] = {}
    for call in history.of("remove"):
        if call.said["key"] and call.result is not None:
            made.setdefault(call.said["key"], set()).add(call.result.id)
    yield from (f"the removals {sorted(ids)} were asked for once" for ids in made.values() if len(ids) > 1)


def _must_cover(history: History, removal: Call) -> dict[str, Payload]:
    """What a removal has to say that it covered, as it was last, by the keys of the pictures.

    That is what it has marked; and what had been accepted before it was asked for, and met its filter from then on
    until a deletion took it.
    """
    found: dict[str, Payload] = {}
    accepted = {
        (call.said["image_id"], call.said["hash"])
        for call in history.of("send")
        if call.answer == ACCEPTED and call.ended <= removal.begun
    }
    deleted = {each.before["picture"] for each in history.changes if each.before and each.after is None}
    noted = history.noted.get(removal.result.id, ())
    for picture, versions in history.versions().items():
        if _is_taken_back(versions) and picture not in noted:
            continue
        last = [each.after for each in versions if each.after][-1]
        before = [each.after for each in versions if each.after and each.step <= removal.begun][-1:]
        since = [*before, *(each.after for each in versions if each.after and each.step > removal.begun)]
        until = history.done.get(removal.result.id, history.scheduler.step)
        marked = [each for each in versions if each.after and each.after.get("removal") == removal.result.id]
        if any(each.step <= until for each in marked) or (
            before
            and (last["image_id"], last["content_hash"]) in accepted
            and picture in deleted
            and versions[-1].step > removal.ended
            and all(_meets(removal.said["filter"], each) for each in since)
        ):
            found[picture] = last
    return found


def _is_taken_back(versions: list[Change]) -> bool:
    """Whether who put an image deleted it: it was refused just then, and never accepted."""
    return bool(versions[0].actor) and versions[-1].after is None and versions[-1].actor == versions[0].actor


def _could_cover(history: History, removal: Call) -> set[str]:
    """The pictures of all that ever met its filter after it was begun."""
    return {
        each["picture"]
        for change in history.changes
        for each in (change.before, change.after)
        if each and change.step >= removal.begun and _meets(removal.said["filter"], each)
    } | {
        change.after["picture"]
        for change in history.changes
        if change.after and change.step < removal.begun and _meets(removal.said["filter"], change.after)
    }


def _returned(history: History) -> Iterator[str]:
    """What a removal covered and is there."""
    for removal in _removals(history):
        for image_id, held in history.held.items():
            first = min(c.step for c in history.changes if c.after and c.after["picture"] == held["picture"])
            if first <= removal.begun and all(
                _meets(removal.said["filter"], change.after)
                for change in history.changes
                if change.after and change.after["picture"] == held["picture"]
            ):
                yield f"{image_id} was there when it was to be removed, and still is"
    for image_id, held in history.held.items():
        if held.get("removal"):
            yield f"{image_id} has the mark of a removal that is done"


def _unblocked(history: History) -> Iterator[str]:
    """Contents that a removal with block covered, or whose subject it named, and that were accepted again."""
    for removal in _removals(history):
        if not removal.said["block"]:
            continue
        since, versions = _blocked(history, removal), history.versions()
        subject = removal.said["filter"].get("subject")
        for image_id, held in history.held.items():
            if versions[held["picture"]][0].step > since.get(held["content_hash"], 10**9):
                yield f"the content of {image_id} was accepted again"
            elif subject is not None and held.get("subject") == subject:
                yield f"{image_id} has the subject {subject}"
        for call in history.of("probe"):
            if call.answer == ACCEPTED and not since.keys().isdisjoint(call.said["hashes"]):
                yield f"the content of {call.said['image_id']} is accepted after the removal"


def _blocked(history: History, removal: Call) -> dict[str, int]:
    """The contents that a removal with block refuses, with the step since when: what was accepted before may stay."""
    since = entries_of(history).contents_of(removal.result.id)
    noted = history.noted.get(removal.result.id, {})
    for picture, payload in _must_cover(history, removal).items():
        content = payload["content_hash"]
        since[content] = min(since.get(content, 10**9), noted.get(picture, removal.begun))
    return since


def _wrong_receipts(history: History) -> Iterator[str]:
    for removal in _removals(history):
        receipt = history.service.removal(removal.result.id)
        if receipt.status is not RemovalStatus.DONE:
            yield f"removal by {removal.said['filter']} never ends"
            continue
        must, could = _must_cover(history, removal), _could_cover(history, removal)
        named = entries_of(history).named_by(removal.result.id)
        could |= {picture for picture, all_of in history.versions().items() if _image_id(all_of) in named}
        if not len(must) <= receipt.images <= len(could):
            yield f"removal by {removal.said['filter']} says {receipt.images}, not {len(must)} to {len(could)}"
        if (noted := len(history.noted.get(removal.result.id, ()))) != receipt.images:
            yield f"removal by {removal.said['filter']} says {receipt.images}, and noted {noted}"
        events = history.service.entries_of(removal.result.id)
        if events.count("done") != 1:
            yield f"the log has {events} of a removal"
    yield from history.service.faults()


def _image_id(versions: list[Change]) -> str:
    return next(str(each["image_id"]) for change in versions for each in (change.before, change.after) if each)


def _left(history: History) -> Iterator[str]:
    """Files of pictures that no image has, and decisions that tell of what was removed."""
    pictures = {held["picture"] for held in history.held.values() if has_picture(held["picture"])}
    hidden = {file for file in history.service.picture_files() if file.rpartition("/")[2].startswith(".")}
    files = history.service.picture_files() - hidden
    unheard = any(call.answer == "" for call in history.of("send"))  # what a kill leaves, only an erasure looks for
    unheard |= any(actor.is_killed for actor in history.scheduler.actors)
    is_erased = history.is_erased and bool(_removals(history))  # where nothing was removed, nothing is waited for
    for file in sorted(files - pictures if is_erased or not unheard else ()):
        yield f"the picture {file} is left"
    for file in sorted(pictures - files):
        yield f"the picture {file} is gone"
    left = hidden - {history.service.pixels_of(picture) for picture in pictures}
    left -= {history.service.thumbnail_of(picture) for picture in pictures}
    if is_erased and left:
        yield f"{len(left)} files of pixels or thumbnails are left"
    yield from _left_decisions(history)
    yield from _left_judgements(history)


def _left_decisions(history: History) -> Iterator[str]:
    for removal in _removals(history):
        covered = {each["image_id"] for each in _must_cover(history, removal).values()} - history.held.keys()
        named = {value for value in removal.said["filter"].values() if isinstance(value, str)}
        for decision in history.service.kept_decisions():
            said = json.dumps(decision.model_dump(mode="json"))
            for image_id in sorted(covered):
                if f'"{image_id}"' in said:
                    yield f"a decision names {image_id}, which was removed"
            asked = [call for call in history.of("ask") if call.result and call.result.id == decision.id]
            if covered and any(call.begun <= removal.begun for call in asked):
                for value in named:
                    if f'"{value}"' in json.dumps(decision.options.filter.model_dump(mode="json")):
                        yield f"a decision was asked for {value}, who was removed"


def _left_judgements(history: History) -> Iterator[str]:
    """Images that were removed, with the pictures they had then or before, and that the judgement tells of."""
    appeared: dict[str, dict[str, int]] = {}
    for change in history.changes:
        if change.after:
            appeared.setdefault(change.after["image_id"], {}).setdefault(change.after["picture"], change.step)
    noted = {picture for pictures in history.noted.values() for picture in pictures}
    for image_id, pictures in appeared.items():
        last = max((step for picture, step in pictures.items() if picture in noted), default=-1)
        for picture, step in pictures.items():
            if step <= last and history.service.judges(picture):
                yield f"the judgement tells of {image_id} as {picture}, which was removed"

"""Re-rank: where the vote is close, a vision-language model chooses among the labels that got votes.

The nearest neighbours' pictures go to it with their labels, beside the picture that is asked about: only pictures of a
tenant for whom the settings allow it, made small and without their metadata. Whatever goes wrong, the vote stands and
the decision says why. Shares, margin and neighbours stay those of the vote, so that it can be counted again.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

import anyio
from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from visual_memory.schemas.decision import Decision, Neighbour
from visual_memory.schemas.decision import Rerank as Outcome
from visual_memory.schemas.errors import NotFound, VisualMemoryError
from visual_memory.schemas.image import StoredImage
from visual_memory.services.access.rate_limits import RateLimits
from visual_memory.services.classification.reranking.answer_cache import AnswerCache, digest
from visual_memory.services.classification.reranking.vision_model import VisionModel
from visual_memory.services.classification.reranking.vision_prompt import Example, NoAnswer, Prompt
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.point_payload import has_picture
from visual_memory.services.removal.covered_images import CoveredImages
from visual_memory.services.settings import RerankSettings

AT_ONCE = 4
"""Questions of one request that are asked at the same time."""
MOST_CANDIDATES = 50
"""Labels that a model may choose from: those with the largest shares."""
NOT_SET_UP = "no vision-language model is set up"
NOT_ALLOWED = "pictures of this tenant may not be sent to a model"
NO_LABEL = "there is no label that could be ranked again"
NO_PICTURE = "a vector was sent, and a model needs a picture"
GONE = "the picture of a neighbour is gone"
NOT_READ = "the pictures that belong to the question cannot be read at the moment"
NOT_SHOWN = "no neighbour is known whose picture could go with the question"
TOO_SLOW = "no answer came in time"

log = logging.getLogger(__name__)


class NotAsked(Exception):
    """The model is not asked; the message says why."""


@dataclass(frozen=True)
class CloseVote:
    """A close vote: the picture that was voted on, and whose key asked."""

    tenant: str
    key_id: str
    picture: bytes
    decision: Decision

    @property
    def candidates(self) -> list[str]:
        """The labels to choose from, the winner first."""
        return [each.label for each in self.decision.shares[:MOST_CANDIDATES]]


class Rerank:
    """The use case, with the parts that it needs.

    Its questions wait for their answers in an event loop of their own, where each can be given up at any moment.

    Args:
        settings: when a model may be asked, and what goes to it.
        model: whom to ask; None: there is no model.
        memory: finds the neighbours' pictures.
        pictures: has them.
        decoder: makes them small.
        rates: counts the questions of keys; used in no other event loop.
    """

    def __init__(
        self,
        settings: RerankSettings,
        model: VisionModel | None,
        memory: Memory,
        pictures: PictureStore,
        decoder: Decoder,
        rates: RateLimits,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._pictures = pictures
        self._decoder = decoder
        self._rates = rates
        self._answers = AnswerCache(settings.cache_entries)
        self._parts = ExitStack()
        self._model = model
        if model is not None:
            self._portal = self._parts.enter_context(start_blocking_portal(name="rerank"))
            self._parts.callback(self._portal.call, model.aclose)

    def close(self) -> None:
        """Let go of the connections."""
        self._parts.close()

    def forget(self, tenant: str, covered: CoveredImages) -> None:
        """Drop the answers of a tenant whose images are removed; a hook of the removal."""
        if not covered:
            return
        self._answers.forget(tenant)

    def __call__(
        self, tenant: str, key_id: str, pictures: Sequence[bytes], decisions: Sequence[Decision]
    ) -> list[Decision]:
        """The decisions, with the model's label where it was asked and gave one.

        Args:
            tenant: whose memory voted.
            key_id: whose budget a question is counted on.
            pictures: what was voted on; empty where it was vectors.
            decisions: as the votes made them, one for each picture; the neighbours that they show go with a question.
        """
        shown = pictures or [b""] * len(decisions)
        asked = [
            CloseVote(tenant, key_id, picture, decision) for picture, decision in zip(shown, decisions, strict=True)
        ]
        with prometheus_metrics.stage("rerank"):
            return [
                _reranked(decision, outcome) for decision, outcome in zip(decisions, self._outcomes(asked), strict=True)
            ]

    def _outcomes(self, asked: Sequence[CloseVote]) -> list[Outcome]:
        why = [self._why_not(each) for each in asked]
        close = [each for each, reason in zip(asked, why, strict=True) if reason is None]
        answers = iter(self._portal.call(self._ask_all, self._model, close) if self._model and close else [])
        return [
            next(answers) if reason is None else Outcome(voted=each.decision.label, fallback=reason)
            for each, reason in zip(asked, why, strict=True)
        ]

    def _why_not(self, asked: CloseVote) -> str | None:
        """Why the model is not asked, as far as that is known at once."""
        margin, least = asked.decision.margin, self._settings.margin
        if self._model is None:
            return NOT_SET_UP
        if asked.tenant not in self._settings.tenants:
            return NOT_ALLOWED
        if asked.decision.label is None:
            return NO_LABEL
        if margin >= least:
            return f"the vote is clear: its margin is {margin:.2f}, and a model is asked below {least:.2f}"
        if not asked.picture:
            return NO_PICTURE
        return None if asked.decision.neighbours else NOT_SHOWN

    async def _ask_all(self, model: VisionModel, asked: Sequence[CloseVote]) -> list[Outcome]:
        """What becomes of each question; those that have no answer when the time is over are given up."""
        outcomes = [Outcome(model=model.name, voted=each.decision.label, fallback=TOO_SLOW) for each in asked]
        turns = anyio.Semaphore(AT_ONCE)

        async def ask(place: int) -> None:
            async with turns:
                outcomes[place] = await self._ask(model, asked[place])

        with anyio.move_on_after(self._settings.timeout):
            async with anyio.create_task_group() as group:
                for place in range(len(asked)):
                    group.start_soon(ask, place)
        for reason in {each.fallback for each in outcomes if each.model and each.fallback}:
            log.warning("a vision-language model was of no help: %s", reason)
        return outcomes

    async def _ask(self, model: VisionModel, asked: CloseVote) -> Outcome:
        voted = asked.decision.label
        try:
            neighbours = await to_thread.run_sync(self._neighbours, asked, abandon_on_cancel=True)
            entry = self._entry(asked, neighbours)
            label = self._answers.get(asked.tenant, entry)
            if label is not None:
                return Outcome(model=model.name, label=label, voted=voted, cached=True)
            prompt = await to_thread.run_sync(self._prompt, asked, neighbours, abandon_on_cancel=True)
            if not await self._rates.take_question(asked.key_id, self._settings.calls_per_day):
                raise NotAsked(f"the key has asked its {self._settings.calls_per_day} questions of this day")
            label = await model.ask(prompt)
        except NotAsked as why:
            return Outcome(voted=voted, fallback=str(why))
        except NoAnswer as why:
            return Outcome(model=model.name, voted=voted, fallback=str(why))
        self._answers.put(asked.tenant, entry, label)
        return Outcome(model=model.name, label=label, voted=voted)

    def _neighbours(self, asked: CloseVote) -> list[tuple[StoredImage, list[str]]]:
        """The images that go with the question, each with the candidates that it voted for."""
        nearest = _distinct(asked.decision.neighbours)[: self._settings.neighbours]
        try:
            held = self._memory.images.get(asked.tenant, [each.image_id for each in nearest])
        except VisualMemoryError as error:
            raise NotAsked(NOT_READ) from error
        if any(each.image_id not in held or held[each.image_id].removal is not None for each in nearest):
            raise NotAsked(GONE)
        pictured = [each for each in nearest if has_picture(held[each.image_id].picture)]
        if not pictured:
            raise NotAsked(NOT_SHOWN)
        voted = ((held[each.image_id], _voted_for(each, asked.candidates)) for each in pictured)
        return [(image, labels) for image, labels in voted if labels]

    def _entry(self, asked: CloseVote, neighbours: Sequence[tuple[StoredImage, list[str]]]) -> str:
        examples = [(image.image_id, image.picture, labels) for image, labels in neighbours]
        return digest(sha256(asked.picture).hexdigest(), examples, asked.candidates)

    def _prompt(self, asked: CloseVote, neighbours: Sequence[tuple[StoredImage, list[str]]]) -> Prompt:
        side = self._settings.side
        try:
            examples = [
                Example(self._decoder.thumbnail(asked.tenant, self._pictures.read(image.picture), side), labels)
                for image, labels in neighbours
            ]
            return Prompt(self._decoder.thumbnail(asked.tenant, asked.picture, side), examples, asked.candidates)
        except NotFound as error:
            raise NotAsked(GONE) from error
        except VisualMemoryError as error:
            raise NotAsked(NOT_READ) from error


def _distinct(neighbours: Sequence[Neighbour]) -> list[Neighbour]:
    """Of copies with the same labels the first: their pictures say no more than its own."""
    return list({(each.group, *each.labels): each for each in reversed(neighbours)}.values())[::-1]


def _voted_for(neighbour: Neighbour, candidates: Sequence[str]) -> list[str]:
    """The candidates that a neighbour's labels are, or lie below where a level cut them."""
    return [
        each for each in candidates if any(label == each or label.startswith(f"{each}/") for label in neighbour.labels)
    ]


def _reranked(decision: Decision, outcome: Outcome) -> Decision:
    label = decision.label if outcome.label is None else outcome.label
    return decision.model_copy(update={"label": label, "rerank": outcome})

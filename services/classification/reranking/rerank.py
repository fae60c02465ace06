"""Re-rank close votes: a vision-language model chooses among the labels that got votes.

The model receives the query's picture and those of the nearest neighbours with their labels: thumbnails without
metadata, and only for tenants that the settings name. When the model gives no usable answer, the label of the vote is
kept and the decision says why. Shares, margin and neighbours always are those of the vote.
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
from visual_memory.schemas.image import StoredImage, has_picture
from visual_memory.services.access.rate_limits import RateLimits
from visual_memory.services.classification.reranking.answer_cache import AnswerCache, digest
from visual_memory.services.classification.reranking.prompt_and_answer import Example, NoAnswer, Prompt
from visual_memory.services.classification.reranking.vision_model import VisionModel
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImages
from visual_memory.services.settings import RerankSettings

AT_ONCE = 4
"""Questions of one request that are sent at the same time."""
MAX_CANDIDATES = 50
"""Labels that a model may choose from: those with the largest shares of the vote."""
NOT_CONFIGURED = "no vision-language model is configured"
NOT_ALLOWED = "pictures of this tenant may not be sent to a model"
NO_LABEL = "the vote has no label to re-rank"
NO_PICTURE = "a vector was sent, and a model needs a picture"
GONE = "the picture of a neighbour is gone"
NOT_READ = "the pictures for the question cannot be read at the moment"
NO_EXAMPLES = "the decision has no neighbour with a picture"
TOO_SLOW = "the model did not answer in time"

log = logging.getLogger(__name__)


class NotAsked(Exception):
    """The model was not asked; the message says why."""


@dataclass(frozen=True)
class CloseVote:
    """A decision that may be re-ranked, with its picture and the key of the request."""

    tenant: str
    key_id: str
    picture: bytes
    decision: Decision

    @property
    def candidates(self) -> list[str]:
        """The labels to choose from, the winner first."""
        return [each.label for each in self.decision.shares[:MAX_CANDIDATES]]


class Rerank:
    """The use case.

    Questions are sent from a separate event loop, in which each can be cancelled at any moment.

    Args:
        settings: when a model may be asked, and what it receives.
        model: to ask; None where none is configured.
        memory: finds the neighbours.
        pictures: reads their pictures.
        decoder: makes thumbnails.
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
        self._exits = ExitStack()
        self._model = model
        if model is not None:
            self._portal = self._exits.enter_context(start_blocking_portal(name="rerank"))
            self._exits.callback(self._portal.call, model.aclose)

    def close(self) -> None:
        """Close the connections."""
        self._exits.close()

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Drop the cached answers of a tenant whose images are removed: a hook of the removal."""
        if not covered:
            return
        self._answers.delete(tenant)

    def __call__(
        self, tenant: str, key_id: str, pictures: Sequence[bytes], decisions: Sequence[Decision]
    ) -> list[Decision]:
        """Re-rank decisions.

        Args:
            tenant: whose memory voted.
            key_id: the key whose daily budget a question uses.
            pictures: of the queries; empty where vectors were sent.
            decisions: of the votes, one for each query; a question includes the neighbours that they show.

        Returns:
            the decisions, with the model's label where it gave one.
        """
        shown = pictures or [b""] * len(decisions)
        votes = [
            CloseVote(tenant, key_id, picture, decision) for picture, decision in zip(shown, decisions, strict=True)
        ]
        with prometheus_metrics.stage("rerank"):
            return [
                _reranked(decision, outcome) for decision, outcome in zip(decisions, self._outcomes(votes), strict=True)
            ]

    def _outcomes(self, votes: Sequence[CloseVote]) -> list[Outcome]:
        reasons = [self._why_not(each) for each in votes]
        to_ask = [each for each, reason in zip(votes, reasons, strict=True) if reason is None]
        answers = iter(self._portal.call(self._ask_all, self._model, to_ask) if self._model and to_ask else [])
        return [
            next(answers) if reason is None else Outcome(voted=each.decision.label, fallback=reason)
            for each, reason in zip(votes, reasons, strict=True)
        ]

    def _why_not(self, vote: CloseVote) -> str | None:
        """Why the model is not asked, as far as the vote and the settings say; else None."""
        margin, least = vote.decision.margin, self._settings.margin
        if self._model is None:
            return NOT_CONFIGURED
        if vote.tenant not in self._settings.tenants:
            return NOT_ALLOWED
        if vote.decision.label is None:
            return NO_LABEL
        if margin >= least:
            return f"the vote is clear: its margin is {margin:.2f}, and the model decides below {least:.2f}"
        if not vote.picture:
            return NO_PICTURE
        return None if vote.decision.neighbours else NO_EXAMPLES

    async def _ask_all(self, model: VisionModel, votes: Sequence[CloseVote]) -> list[Outcome]:
        """Ask all questions at once; those without an answer at the timeout are cancelled."""
        outcomes = [Outcome(model=model.name, voted=each.decision.label, fallback=TOO_SLOW) for each in votes]
        slots = anyio.Semaphore(AT_ONCE)

        async def ask(index: int) -> None:
            async with slots:
                outcomes[index] = await self._ask(model, votes[index])

        with anyio.move_on_after(self._settings.timeout):
            async with anyio.create_task_group() as group:
                for index in range(len(votes)):
                    group.start_soon(ask, index)
        for reason in {each.fallback for each in outcomes if each.model and each.fallback}:
            log.warning("a vision-language model gave no usable answer: %s", reason)
        return outcomes

    async def _ask(self, model: VisionModel, vote: CloseVote) -> Outcome:
        voted = vote.decision.label
        try:
            neighbours = await to_thread.run_sync(self._neighbours, vote, abandon_on_cancel=True)
            entry = self._entry(vote, neighbours)
            label = self._answers.get(vote.tenant, entry)
            if label is not None:
                return Outcome(model=model.name, label=label, voted=voted, cached=True)
            prompt = await to_thread.run_sync(self._prompt, vote, neighbours, abandon_on_cancel=True)
            if not await self._rates.count_question(vote.key_id, self._settings.calls_per_day):
                raise NotAsked(f"the key has used its {self._settings.calls_per_day} questions of the day")
            label = await model.ask(prompt)
        except NotAsked as why:
            return Outcome(voted=voted, fallback=str(why))
        except NoAnswer as why:
            return Outcome(model=model.name, voted=voted, fallback=str(why))
        self._answers.put(vote.tenant, entry, label)
        return Outcome(model=model.name, label=label, voted=voted)

    def _neighbours(self, vote: CloseVote) -> list[tuple[StoredImage, list[str]]]:
        """The images of the question, each with the candidates that it voted for."""
        nearest = _distinct(vote.decision.neighbours)[: self._settings.neighbours]
        try:
            images = self._memory.images.get(vote.tenant, [each.image_id for each in nearest])
        except VisualMemoryError as error:
            raise NotAsked(NOT_READ) from error
        if any(each.image_id not in images or images[each.image_id].removal is not None for each in nearest):
            raise NotAsked(GONE)
        pictured = [each for each in nearest if has_picture(images[each.image_id].picture)]
        if not pictured:
            raise NotAsked(NO_EXAMPLES)
        voted = ((images[each.image_id], _voted_for(each, vote.candidates)) for each in pictured)
        return [(image, labels) for image, labels in voted if labels]

    def _entry(self, vote: CloseVote, neighbours: Sequence[tuple[StoredImage, list[str]]]) -> str:
        examples = [(image.image_id, image.picture, labels) for image, labels in neighbours]
        return digest(sha256(vote.picture).hexdigest(), examples, vote.candidates)

    def _prompt(self, vote: CloseVote, neighbours: Sequence[tuple[StoredImage, list[str]]]) -> Prompt:
        side = self._settings.side
        try:
            examples = [
                Example(self._decoder.thumbnail(vote.tenant, self._pictures.read(image.picture), side), labels)
                for image, labels in neighbours
            ]
            return Prompt(self._decoder.thumbnail(vote.tenant, vote.picture, side), examples, vote.candidates)
        except NotFound as error:
            raise NotAsked(GONE) from error
        except VisualMemoryError as error:
            raise NotAsked(NOT_READ) from error


def _distinct(neighbours: Sequence[Neighbour]) -> list[Neighbour]:
    """The first of copies with the same labels: the pictures of the others add nothing."""
    return list({(each.group, *each.labels): each for each in reversed(neighbours)}.values())[::-1]


def _voted_for(neighbour: Neighbour, candidates: Sequence[str]) -> list[str]:
    """The candidates among a neighbour's labels, or above them where a level cut the labels."""
    return [
        each for each in candidates if any(label == each or label.startswith(f"{each}/") for label in neighbour.labels)
    ]


def _reranked(decision: Decision, outcome: Outcome) -> Decision:
    label = decision.label if outcome.label is None else outcome.label
    return decision.model_copy(update={"label": label, "rerank": outcome})

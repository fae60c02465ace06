"""A decision: how the neighbours voted, with everything that is needed to count the votes again by hand."""

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.classify_options import ClassifyOptions


class Neighbour(BaseModel):
    """A remembered image that voted.

    Attributes:
        rank: its rank from the nearest, counted from 0; neighbours that share a vote have the same rank.
        similarity: cosine similarity to the query, -1 to 1.
        labels: the whole labels of the image, whatever the level of the vote; with `as_of`, those that it had then.
        reliability: the factor for its wrong votes, 1 where it has none.
        copies: the number of neighbours that share its rank, including itself; its weight is divided by it.
        weight: what it adds to each of its labels: the weight for its rank and similarity, times reliability, divided
            by copies.
        share: its weight divided by the sum of all scores, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)

    rank: int
    image_id: str
    similarity: float
    labels: list[str]
    reliability: float = 1.0
    copies: int = 1
    weight: float
    share: float

    @property
    def group(self) -> int:
        """Equal for neighbours that share a vote."""
        return self.rank


class ClassShare(BaseModel):
    """A class's score, the sum of its neighbours' weights, and its share of all scores, 0 to 1."""

    model_config = ConfigDict(frozen=True)

    label: str
    score: float
    share: float


class Novelty(BaseModel):
    """How far a query is from its neighbours.

    Attributes:
        distance: mean cosine distance (1 - similarity) to the neighbours that voted, 0 to 2.
        quantile: the share of the memory's images that are nearer to their neighbours, 0 to 1; null where the memory
            has not been judged yet.
    """

    model_config = ConfigDict(frozen=True)

    distance: float
    quantile: float | None = None


class Rerank(BaseModel):
    """The outcome of re-ranking by a vision-language model.

    Attributes:
        model: its name; null where none was asked.
        label: its answer; null where it gave no usable one.
        voted: the label of the vote alone.
        fallback: why the label of the vote is kept; null where the model decided.
        cached: whether the answer comes from the cache.
    """

    model_config = ConfigDict(frozen=True)

    model: str | None = None
    label: str | None = None
    voted: str | None = None
    fallback: str | None = None
    cached: bool = False


class Decision(BaseModel):
    """The outcome of a vote.

    Attributes:
        id: of the stored decision; null where it was not stored.
        label: the winner; null where no image voted, the query is unknown, or no level has a clear winner (see
            `reason`).
        shares: every class that got a vote, the winner first, then by score; at the level of the answer.
        margin: the winner's share less the runner-up's, 0 to 1.
        voters: the number of neighbours that voted, of at most k contents or images; those that share a vote are all
            counted.
        truncated: whether more images might have voted than the 4 k that the search looked at, because too many are
            equally near, share a vote, or are pruned. Which of the equally near images voted then depends on the
            engine, and may depend on images that it once had.
        neighbours: the shown neighbours, the nearest first.
        encoder: the name of the encoder whose vectors were compared.
        novelty: where `unknown_above` is set.
        prediction_set: where `coverage` is set: the labels that may be right, the likeliest first; at the requested
            level, before backing off.
        set_share: the least share of the vote of a label in the prediction set; the winner always is in it. 0: every
            label that got a vote is in it, and the right label may be missing more often than requested, because it
            often gets no vote.
        rerank: where it is requested.
    """

    model_config = ConfigDict(frozen=True)

    id: str | None = None
    label: str | None
    reason: str | None = None
    margin: float = 0.0
    shares: list[ClassShare] = Field(default_factory=list)
    voters: int = 0
    truncated: bool = False
    neighbours: list[Neighbour] = Field(default_factory=list)
    encoder: str
    novelty: Novelty | None = None
    prediction_set: list[str] | None = None
    set_share: float | None = None
    rerank: Rerank | None = None

    @property
    def voted_label(self) -> str | None:
        """The label of the vote, before a re-rank."""
        return self.rerank.voted if self.rerank and self.rerank.voted else self.label


class Decisions(BaseModel):
    """One decision for each picture or vector, in the order of the request.

    Attributes:
        options: of all decisions, as they were applied; `prune` is always set.
    """

    model_config = ConfigDict(frozen=True)

    options: ClassifyOptions
    decisions: list[Decision]

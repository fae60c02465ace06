"""A decision: how the neighbours of a picture voted, with all that is needed to count the votes again by hand."""

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.classify_options import ClassifyOptions


class Neighbour(BaseModel):
    """A remembered image that voted.

    Attributes:
        rank: its place from the nearest, counted from 0; neighbours that share a vote share it.
        similarity: cosine similarity to the query, -1 to 1.
        labels: the labels of the image, whole, whatever the level of the vote; with `as_of`, those it had then.
        reliability: what its vote was multiplied by because of earlier wrong votes, 1 where it has none.
        copies: how many neighbours share its rank, itself among them; its weight is divided by it.
        weight: what it gives to each of its labels: that of its rank and similarity, times reliability, by copies.
        share: its weight as part of the sum of all scores, 0 to 1.
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
        """What those that share its vote have in common."""
        return self.rank


class ClassShare(BaseModel):
    """A class's part of the vote: the sum of its neighbours' weights, and that as part of the sum of all scores."""

    model_config = ConfigDict(frozen=True)

    label: str
    score: float
    share: float


class Novelty(BaseModel):
    """How far a picture is from its neighbours.

    Attributes:
        distance: mean cosine distance (1 - similarity) to the neighbours that voted, 0 to 2.
        percentile: how many of a hundred images of the memory are nearer to theirs, 0 to 100; null where the memory
            has not been judged yet.
    """

    model_config = ConfigDict(frozen=True)

    distance: float
    percentile: float | None = None


class Rerank(BaseModel):
    """What became of asking a vision-language model.

    Attributes:
        model: its name; null where none was asked.
        label: what it answered; null where it gave no usable answer.
        voted: the label of the vote alone.
        fallback: why the vote stands; null where the model's answer does.
        cached: whether the answer was at hand already.
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
        id: where it was stored, what it is looked up by; else null.
        label: the winner; null where nobody voted, the picture is unknown, or backing off led nowhere; then `reason`
            says why.
        shares: every class that got a vote, the winner first, then by score; at the level that was answered.
        margin: the winner's share less the runner-up's, 0 to 1.
        voters: how many neighbours voted, each of those that share a vote counted: of at most k contents, or images.
        truncated: whether more images might have voted than the 4 k that were looked at: too many are equally near,
            share a vote, or are left out by pruning. Which of those that are equally near voted then depends on the
            engine, and may depend on what else it ever held.
        neighbours: those that are shown, the nearest first.
        encoder: the name of the encoder whose vectors were compared.
        novelty: where `unknown_above` was asked for.
        prediction_set: where `coverage` was asked for: the labels that may be right, the likeliest first; at the level
            that was asked for, before backing off.
        set_share: the share of the vote from which on a label is in the prediction set; the winner always is. 0: every
            label that got a vote is, as there is no telling more, and the right one may be missing more often than
            asked, because it often gets none.
        rerank: where it was asked for.
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
    """One decision for each picture or vector, in the order they came.

    Attributes:
        options: of all of them, as they were applied; `prune` says how those that voted were pruned.
    """

    model_config = ConfigDict(frozen=True)

    options: ClassifyOptions
    decisions: list[Decision]

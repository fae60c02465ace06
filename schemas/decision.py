"""A decision: how the neighbours voted, with everything that is needed to count the votes again by hand."""

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.classify_options import ClassifyOptions


class Neighbour(BaseModel):
    """A remembered image that voted."""

    model_config = ConfigDict(frozen=True)

    rank: int = Field(
        description="its rank from the nearest, counted from 0; neighbours that share a vote have the same rank",
        examples=[1],
    )
    image_id: str = Field(description="the image's id", examples=["cat-17"])
    similarity: float = Field(description="cosine similarity to the query, -1 to 1", examples=[0.87])
    labels: list[str] = Field(
        description=(
            "the whole labels of the image, whatever the level of the vote; with `as_of`, those that it had then"
        ),
        examples=[["cat"]],
    )
    reliability: float = Field(
        default=1.0, description="the factor for its wrong votes, 1 where it has none", examples=[1.0]
    )
    copies: int = Field(
        default=1,
        description="the number of neighbours that share its rank, including itself; its weight is divided by it",
        examples=[1],
    )
    weight: float = Field(
        description=(
            "what it adds to each of its labels: the weight for its rank and similarity, times reliability, "
            "divided by copies"
        ),
        examples=[0.5],
    )
    share: float = Field(description="its weight divided by the sum of all scores, 0 to 1", examples=[0.8])

    @property
    def group(self) -> int:
        """Equal for neighbours that share a vote."""
        return self.rank


class ClassShare(BaseModel):
    """A class's score, the sum of its neighbours' weights, and its share of all scores, 0 to 1."""

    model_config = ConfigDict(frozen=True)

    label: str = Field(description="the label", examples=["cat"])
    score: float = Field(description="the sum of the weights of its neighbours", examples=[3.2])
    share: float = Field(description="the score divided by that of all labels, 0 to 1", examples=[0.8])


class Novelty(BaseModel):
    """How far a query is from its neighbours."""

    model_config = ConfigDict(frozen=True)

    distance: float = Field(
        description="mean cosine distance (1 - similarity) to the neighbours that voted, 0 to 2", examples=[0.21]
    )
    quantile: float | None = Field(
        default=None,
        description=(
            "the share of the memory's images that are nearer to their neighbours, 0 to 1; null where the "
            "memory has not been judged yet"
        ),
        examples=[0.41],
    )


class Rerank(BaseModel):
    """The outcome of re-ranking by a vision-language model."""

    model_config = ConfigDict(frozen=True)

    model: str | None = Field(default=None, description="its name; null where none was asked", examples=["llava:13b"])
    label: str | None = Field(
        default=None, description="its answer; null where it gave no usable one", examples=["cat"]
    )
    voted: str | None = Field(default=None, description="the label of the vote alone", examples=["dog"])
    fallback: str | None = Field(
        default=None, description="why the label of the vote is kept; null where the model decided", examples=[None]
    )
    cached: bool = Field(default=False, description="whether the answer comes from the cache", examples=[False])


class Decision(BaseModel):
    """The outcome of a vote."""

    model_config = ConfigDict(frozen=True)

    id: str | None = Field(
        default=None, description="of the stored decision; null where it was not stored", examples=["4f1c0a7b9d2e"]
    )
    label: str | None = Field(
        description=(
            "the winner; null where no image voted, the query is unknown, or no level has a clear winner (see `reason`)"
        ),
        examples=["cat"],
    )
    reason: str | None = Field(
        default=None, description="why there is no label, or why another than the vote's; else null", examples=[None]
    )
    margin: float = Field(default=0.0, description="the winner's share less the runner-up's, 0 to 1", examples=[0.42])
    shares: list[ClassShare] = Field(
        default_factory=list,
        description="every class that got a vote, the winner first, then by score; at the level of the answer",
    )
    voters: int = Field(
        default=0,
        description=(
            "the number of neighbours that voted, of at most k contents or images; those that share a vote "
            "are all counted"
        ),
        examples=[50],
    )
    truncated: bool = Field(
        default=False,
        description=(
            "whether more images might have voted than the 4 k that the search looked at, because too many "
            "are equally near, share a vote, or are pruned. Which of the equally near images voted then "
            "depends on the engine, and may depend on images that it once had."
        ),
        examples=[False],
    )
    neighbours: list[Neighbour] = Field(default_factory=list, description="the shown neighbours, the nearest first")
    encoder: str = Field(
        description="the name of the encoder whose vectors were compared", examples=["efficientnet-lite0"]
    )
    novelty: Novelty | None = Field(default=None, description="where `unknown_above` is set")
    prediction_set: list[str] | None = Field(
        default=None,
        description=(
            "where `coverage` is set: the labels that may be right, the likeliest first; at the requested "
            "level, before backing off"
        ),
        examples=[["cat", "dog"]],
    )
    set_share: float | None = Field(
        default=None,
        description=(
            "the least share of the vote of a label in the prediction set; the winner always is in it. 0: "
            "every label that got a vote is in it, and the right label may be missing more often than "
            "requested, because it often gets no vote."
        ),
        examples=[0.97],
    )
    rerank: Rerank | None = Field(default=None, description="where it is requested")

    @property
    def voted_label(self) -> str | None:
        """The label of the vote, before a re-rank."""
        return self.rerank.voted if self.rerank and self.rerank.voted else self.label


class Decisions(BaseModel):
    """One decision for each picture or vector, in the order of the request."""

    model_config = ConfigDict(frozen=True)

    options: ClassifyOptions = Field(description="of all decisions, as they were applied; `prune` is always set")
    decisions: list[Decision] = Field(
        description="one decision for each picture or vector, in the order in which they were sent"
    )

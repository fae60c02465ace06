"""An encoder of a memory: what it is made of, which one is active, and how far a further one is filled."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

PoolingName = Literal["auto", "cls", "mean", "pooler"]
PrecisionClass = Literal["float32", "bfloat16", "float16"]
"""Precisions whose vectors agree are of one class: the built-in encoder's in bfloat16 agree with those in float32."""


class EncoderIdentity(BaseModel):
    """What decides an encoder's vectors.

    Attributes:
        name: of its vectors, unique in its collection: the model's and the beginning of the fingerprint, such as
            ``efficientnet-lite0-3f9a2b7c1d4e``; of a memory that was made before there were fingerprints: the model's.
        model: ``efficientnet-lite0``, a model's hub name, or the absolute path of its folder.
        pooling: how tokens become one vector; ``auto``: as the model's family is meant to be used.
        precision: the class of precisions that it is computed in.
        preprocessing: 2: as `services.perception` prepares pictures now; 1: as before pictures' colour profiles were
            read, for vectors that were made then.
        fingerprint: SHA-256, 64 hexadecimal digits, of the weights, the model's configuration, and all of the above
            but names.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    pooling: PoolingName
    precision: PrecisionClass
    preprocessing: Literal[1, 2]
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EncoderSpec(EncoderIdentity):
    """An encoder that a memory knows.

    Attributes:
        dimension: length of its vectors.
        added_at: when the memory came to know it.
    """

    dimension: Annotated[int, Field(ge=1)]
    added_at: AwareDatetime


class EncoderSummary(BaseModel):
    """An encoder, as callers see it.

    Attributes:
        name: of its vectors, as decisions and images name it.
        dimension: length of its vectors.
        active: whether it is the one that classifies.
    """

    name: str
    dimension: int
    active: bool


class ActiveEncoder(BaseModel):
    """The encoder that classifies.

    Attributes:
        before: the one that did so before it, where there was one; it may be dropped since.
        since: when it was switched to.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    before: str | None = None
    since: AwareDatetime


class FillSettings(BaseModel):
    """How an added encoder is filled.

    Attributes:
        share: part of the time that a worker fills it, over 0 to 1.
        paused: whether it is left as it is for now.
    """

    model_config = ConfigDict(frozen=True)

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    paused: bool = False


class FillCounts(BaseModel):
    """The images of a memory that are remembered or muted, by what an encoder has of them.

    Attributes:
        filled: have its vector.
        left: are to be filled.
        failed: cannot be encoded by it, and were given up.
        vectors_only: came as vectors of another encoder, so there is no picture to encode.
    """

    model_config = ConfigDict(frozen=True)

    filled: int = 0
    left: int = 0
    failed: int = 0
    vectors_only: int = 0

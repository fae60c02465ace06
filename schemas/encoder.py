"""An encoder of a memory: its identity, which one is active, and the progress of filling a new one."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

PoolingName = Literal["auto", "cls", "mean", "pooler"]
PrecisionClass = Literal["float32", "bfloat16", "float16"]
"""Precisions whose vectors agree are of one class: those of the built-in encoder in bfloat16 and in float32 do."""


class EncoderIdentity(BaseModel):
    """Everything that determines an encoder's vectors.

    Attributes:
        name: of its vectors, unique in its collection: the model's name and the start of the fingerprint, such as
            ``efficientnet-lite0-3f9a2b7c1d4e``; in memories from before fingerprints, the model's name alone.
        model: ``efficientnet-lite0``, a model's hub name, or the absolute path of its folder.
        pooling: how tokens become one vector; ``auto``: the usual way of the model's family.
        precision: the class of the precision of computation.
        preprocessing: 2: the current preprocessing; 1: the one before colour profiles were read, for vectors of that
            time.
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
        added_at: when it was added to the memory.
    """

    dimension: Annotated[int, Field(ge=1)]
    added_at: AwareDatetime


class EncoderSummary(BaseModel):
    """An encoder, as the API returns it."""

    name: str = Field(description="of its vectors, as decisions and images name it", examples=["efficientnet-lite0"])
    dimension: int = Field(description="length of its vectors", examples=[1280])
    active: bool = Field(description="whether it is the one that classifies", examples=[True])


class ActiveEncoder(BaseModel):
    """The encoder that classifies.

    Attributes:
        before: the active encoder before it, if any; it may be dropped since.
        since: the time of the switch.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    before: str | None = None
    since: AwareDatetime


class FillSettings(BaseModel):
    """How an added encoder is filled with vectors.

    Attributes:
        share: the fraction of a worker's time for it, above 0 to 1.
        paused: whether filling is paused.
    """

    model_config = ConfigDict(frozen=True)

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    paused: bool = False


class FillCounts(BaseModel):
    """The numbers of remembered and muted images by the state of an encoder's vectors.

    Attributes:
        filled: images with its vector.
        left: images that wait for it.
        failed: images that it cannot encode.
        vectors_only: images that were sent as vectors of another encoder, without a picture to encode.
    """

    model_config = ConfigDict(frozen=True)

    filled: int = 0
    left: int = 0
    failed: int = 0
    vectors_only: int = 0

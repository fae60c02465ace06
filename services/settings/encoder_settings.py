"""Settings of the encoder."""

from typing import Annotated, Literal

from pydantic import Field

from visual_memory.schemas.encoder import PoolingName
from visual_memory.services.settings.settings_section import SettingsSection


class EncoderSettings(SettingsSection):
    """The encoder, which turns a picture into a vector."""

    name: Annotated[
        str | None,
        Field(
            min_length=1,
            description="efficientnet-lite0 (built in), a model's hub name or folder, or the name of an encoder of the"
            " memory; unset: the memory's active one, efficientnet-lite0 for a new memory",
        ),
    ] = None
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")] = "cpu"
    pooling: Annotated[
        PoolingName,
        Field(description="how a transformer's tokens become one vector; auto: as usual for its model family"),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="number format of the encoder; auto: bfloat16 if processor and encoder support it"),
    ] = "auto"
    batch_size: Annotated[
        int, Field(ge=0, le=1024, description="most pictures encoded at once; 0: 8 on a CPU, 64 on a GPU")
    ] = 0
    threads: Annotated[int, Field(ge=0, description="batches encoded in parallel on a CPU; 0: one per core")] = 0
    upgrade: Annotated[
        Literal["manual", "auto"],
        Field(
            description="how a memory changes to another encoder that is named here, or to new preprocessing: manual,"
            " by `visual-memory encoder`, or auto, at the start"
        ),
    ] = "manual"

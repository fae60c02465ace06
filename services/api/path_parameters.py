"""The ids in paths."""

from typing import Annotated

from fastapi import Path

ChangeIdParameter = Annotated[
    str, Path(description="the change's id", examples=["0198c9d2-6a3e-7c11-9f00-2b1d4e5f6a70"])
]
DecisionIdParameter = Annotated[str, Path(description="the decision's id", examples=["20260131T120000000000-4f1c0a7b"])]
EvaluationIdParameter = Annotated[
    str, Path(description="the evaluation's id", examples=["4f1c0a7b-9d2e-4c55-8a31-6f0d2b7c9e10"])
]
ImageIdParameter = Annotated[str, Path(description="the image's id", examples=["cat-17"])]
JobIdParameter = Annotated[str, Path(description="the job's id", examples=["0b9c8f3e-6a55-4a8e-9d4c-2f3f5f0f6a10"])]
KeyIdParameter = Annotated[str, Path(description="the key's id", examples=["9f86d081884c"])]
RemovalIdParameter = Annotated[
    str, Path(description="the removal's id", examples=["4f1c0a7b-9d2e-4c55-8a31-6f0d2b7c9e10"])
]

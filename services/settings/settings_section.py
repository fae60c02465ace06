"""Base class and limits shared by all sections of the settings."""

from pydantic import BaseModel, ConfigDict

PREFIX = "VISUAL_MEMORY_"
"""Prefix of all environment variables."""

MAX_AT_ONCE = 4096
"""Upper limit of images in one request, whatever the settings allow."""


class SettingsSection(BaseModel):
    """A section: ``VISUAL_MEMORY_SECTION__NAME`` in the environment, ``[section]`` in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

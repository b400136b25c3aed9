"""How a role reads its settings: environment variables in, one frozen value out, every problem at once.

Pure: the environment is an argument. A field `max_lines` is the variable `NIGHTSHIFT_MAX_LINES`; the docstring under
it says meaning, unit and cost, and is its text in `docs/settings.md`.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nightshift_crds.errors import Rejected
from nightshift_crds.models import MAX_ENDPOINTS, Endpoint

PREFIX = "NIGHTSHIFT_"


def _split(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A comma-separated list."""
Endpoints = Annotated[tuple[Endpoint, ...], BeforeValidator(_split), Field(min_length=1, max_length=MAX_ENDPOINTS)]
"""A comma-separated list of what a batch may be on."""


class Settings(BaseModel):
    """The base of every role's settings."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=lambda field: PREFIX + field.upper(),
        populate_by_name=True,
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings out of an environment; an empty variable is an absent one.

        Raises:
            Rejected: names every variable that is missing or wrong, and why; never a value.
        """
        try:
            return cls.model_validate(
                {name: text for name, text in environ.items() if text and name.startswith(PREFIX)}
            )
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
            raise Rejected("These settings need a look:\n  " + "\n  ".join(problems)) from None


class MetricsSettings(Settings):
    """Where a role shows its metrics."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port that shows metrics to Prometheus at `/metrics`, without a key: for whoever watches the installation, not for
    those who call it. 0 shows none."""
    metrics_host: str = "0.0.0.0"  # noqa: S104 - a pod listens on its own address
    """Address of that port."""


class CommonSettings(MetricsSettings):
    """What every role that talks to cluster and bucket is told."""

    cluster: str
    """URL of the cluster: `sqlite:///PATH`."""
    bucket: str
    """URL of the bucket: `file:///PATH`."""

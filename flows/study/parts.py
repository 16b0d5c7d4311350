"""The sections of a study file. What one section cannot know about another is in `flows.study.checks`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WrapValidator,
    model_validator,
)

from flows.study.words import shown

PLAIN = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
OPEN = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

LONGEST_NAME = 40  # leaves room for trial and attempt in the name of a Job


def check_name(value: str) -> str:
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value) and len(value) <= LONGEST_NAME:
        return value
    near = re.sub(r"[^a-z0-9]+", "-", value.lower())[:LONGEST_NAME].strip("-")
    raise ValueError(
        f"got {value!r}, expected up to {LONGEST_NAME} of a-z, 0-9 and '-', which is neither first nor last"
        + (f"; {near!r} would do" if near else "")
    )


def check_store(value: str) -> str:
    """A path, as `file:///dir` or plainly; or `s3://bucket/prefix`."""
    if not value:
        raise ValueError("is empty; expected file:///dir, a path or s3://bucket/prefix")
    if "://" not in value:
        return value
    if value.startswith("s3://"):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s]+)*/?", value):
            raise ValueError(f"got {value!r}, expected s3://bucket/prefix")
        return value.rstrip("/")
    parts = urlsplit(value)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return unquote(parts.path)
    hint = f"; did you mean 'file:///{value[7:]}'?" if parts.scheme == "file" and parts.netloc else ""
    raise ValueError(f"got {value!r}, expected file:///dir, a path or s3://bucket/prefix{hint}")


def seconds(value: object) -> object:
    """Numbers stay; "90s", "10m", "1h30m" become seconds."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value.replace(" ", ""))
    if not found or not any(found.groups()):
        raise ValueError(f"got {value!r}, expected seconds or a time such as 90s, 10m or 1h30m")
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + rest)


def _texted(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a NUL character cannot be handed to a program")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _single(value: object, inner: Callable[[object], object]) -> object:
    """One message where a union would give one for each of its members."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"got {shown(value)}, expected a number, a text, true or false")


def check_image(value: str) -> str:
    if not re.fullmatch(r"\S+", value):
        raise ValueError(f"got {value!r}, expected an image such as registry.example/digits:1.0")
    return value


def check_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_.-][A-Za-z0-9_.-]*", name):
        raise ValueError("is no name of an environment variable; expected letters, digits, '_', '-' and '.'")
    if name.startswith("ABOHB_"):
        raise ValueError("names with ABOHB_ are set by abohb itself; choose another")
    return name


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


Name: TypeAlias = Annotated[str, AfterValidator(check_name)]
Location: TypeAlias = Annotated[str, AfterValidator(check_store)]
Image: TypeAlias = Annotated[str, AfterValidator(check_image)]
Variable: TypeAlias = Annotated[str, AfterValidator(check_variable)]
Text: TypeAlias = Annotated[str, BeforeValidator(_texted)]
Value: TypeAlias = Annotated[bool | int | float | str, WrapValidator(_single)]
When: TypeAlias = Annotated[list[Value], BeforeValidator(_listed), Field(min_length=1)]
Seconds: TypeAlias = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Point: TypeAlias = dict[str, Value]


class Metric(BaseModel):
    """A number that the training code reports."""

    model_config = PLAIN
    name: str = Field(title="Metric", description="Its name in metrics.jsonl.", min_length=1)
    mode: Literal["min", "max"] = Field(
        "min", title="Mode", description="Whether less (min) or more (max) is better."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        return {"name": data} if isinstance(data, str) else data


class Constraint(BaseModel):
    """Bounds that a metric must keep for a configuration to count as feasible."""

    model_config = PLAIN
    metric: str = Field(title="Metric", description="One of the metrics of this study.")
    min: float | None = Field(None, title="Min", description="The smallest value allowed.")
    max: float | None = Field(None, title="Max", description="The largest value allowed.")


class Resource(BaseModel):
    """What training is cut off by, and at which levels trials are compared."""

    model_config = PLAIN
    name: str = Field("epoch", title="Resource", description="What one unit is called.", min_length=1)
    min: int = Field(1, title="Min", description="Units after which trials are first compared.", ge=1)
    max: int = Field(title="Max", description="Units of a full training run.", ge=1)
    eta: int = Field(3, title="Eta", description="One of eta trials goes on to the next level.", ge=2)
    resumable: bool = Field(
        True,
        title="Resumable",
        description="False when training always starts over instead of from a checkpoint.",
    )


_WHEN = Field(
    None, title="When", description="The parameter exists only where another one has one of these values."
)


class FloatParameter(BaseModel):
    """A real number."""

    model_config = PLAIN
    type: Literal["float"] = Field(title="Type", description="A real number.")
    low: float = Field(title="Low", description="The smallest value.")
    high: float = Field(title="High", description="The largest value.")
    log: bool = Field(False, title="Log", description="True to search on a logarithmic scale.")
    when: dict[str, When] | None = _WHEN


class IntParameter(BaseModel):
    """A whole number."""

    model_config = PLAIN
    type: Literal["int"] = Field(title="Type", description="A whole number.")
    low: int = Field(title="Low", description="The smallest value.")
    high: int = Field(title="High", description="The largest value.")
    log: bool = Field(False, title="Log", description="True to search on a logarithmic scale.")
    when: dict[str, When] | None = _WHEN


class CategoricalParameter(BaseModel):
    """One of some values without an order."""

    model_config = PLAIN
    type: Literal["categorical"] = Field(title="Type", description="One of some values without an order.")
    values: list[Value] = Field(title="Values", description="The values to choose from.")
    when: dict[str, When] | None = _WHEN


class OrdinalParameter(BaseModel):
    """One of some values in an order that means something."""

    model_config = PLAIN
    type: Literal["ordinal"] = Field(title="Type", description="One of some values in a meaningful order.")
    values: list[Value] = Field(title="Values", description="The values, in their order.")
    when: dict[str, When] | None = _WHEN


ParameterSpec: TypeAlias = Annotated[
    FloatParameter | IntParameter | CategoricalParameter | OrdinalParameter, Field(discriminator="type")
]


class MethodSpec(BaseModel):
    """A method by name, with its options beside the name."""

    model_config = OPEN
    name: str = Field(title="Method", description="A method's name, or package.module:factory.", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        return {"name": data} if isinstance(data, str) else data

    @property
    def options(self) -> dict[str, object]:
        return dict(self.model_extra or {})


class Budget(BaseModel):
    """The study ends at whichever of these comes first."""

    model_config = PLAIN
    trials: int | None = Field(None, title="Trials", description="As many trials have been started.", ge=1)
    hours: float | None = Field(None, title="Hours", description="The study has run for so long.", gt=0)
    resource: int | None = Field(
        None, title="Resource", description="All trials together used so many units.", ge=1
    )
    target: float | None = Field(None, title="Target", description="The objective is at least this good.")

"""The form of the deployed flow `tune`: flat fields, and the study that they make.

A form is turned into the mapping that a study file holds, and is validated by the same code; what is wrong is
told by the names of the form's fields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from hpo_engine.methods import METHODS

T = TypeVar("T")

# In the order of METHODS; a method of one's own would run in the controller, so a form cannot name one.
Method = Literal["a-bohb", "a-bohb-stop", "asha", "asha-stop", "hyperband", "random"]
assert set(Method.__args__) <= set(METHODS)  # type: ignore[attr-defined]

SPACE = """\
learning_rate: {type: float, low: 1.0e-4, high: 1.0, log: true}
momentum: {type: float, low: 0.0, high: 0.99}
batch_size: {type: int, low: 16, high: 512, log: true}
layers: {type: int, low: 1, high: 3}
width: {type: int, low: 8, high: 256, log: true}
activation: {type: categorical, values: [relu, tanh, logistic]}
alpha: {type: float, low: 1.0e-6, high: 1.0, log: true}
noise: {type: float, low: 0.0, high: 1.0}
"""
ADVANCED = """\
# Any other field of a study file, for example:
# stall_after: 10m
# kubernetes: {limits: {memory: 4Gi}}
"""


class Form(BaseModel):
    """The fields, in the order in which they are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    study: str = Field(
        title="Study",
        description="Names the study: up to 40 of a-z, 0-9 and '-'. The same name goes on with it.",
    )
    image: str = Field(
        title="Image",
        description="The container image of your training code, by tag: registry.example/digits:1.0.",
    )
    command: str = Field(
        "",
        title="Command",
        description="What the container runs: python train.py. Empty: the image's own command.",
    )
    arguments: str = Field(
        "",
        title="Arguments",
        description="What follows the command, with hyper-parameters in braces: --lr={learning_rate:.6f}. "
        "All of them are in config.json as well.",
    )
    metric: str = Field(
        "val_error", title="Metric", description="What the training code reports and is tuned for."
    )
    goal: Literal["min", "max"] = Field(
        "min", title="Goal", description="Whether less (min) or more (max) of the metric is better."
    )
    search_space: str = Field(
        SPACE,
        title="Search space",
        description="YAML, one hyper-parameter a line: float, int, categorical or ordinal.",
    )
    resource: str = Field(
        "epoch", title="Resource", description="What training is counted in, as it is called in a report."
    )
    resource_min: int = Field(
        1, title="First rung", description="After so many of them, trials are first compared."
    )
    resource_max: int = Field(27, title="Full training", description="So many of them are a whole run.")
    eta: int = Field(
        3, title="Eta", description="One of eta trials goes on to the next rung, which is eta times as long."
    )
    method: Method = Field(
        "a-bohb", title="Method", description="How configurations are chosen, promoted and stopped."
    )
    workers: int = Field(4, title="Workers", description="How many trials run at once.")
    gpus: int = Field(0, title="GPUs", description="How many each trial gets.")
    cpu: str = Field(
        "", title="CPU", description="What each trial asks for: 2 or 500m. Empty: the platform's default."
    )
    memory: str = Field(
        "", title="Memory", description="What each trial asks for: 4Gi. Empty: the platform's default."
    )
    trials: int = Field(
        30, title="Trials", description="The study ends after so many trials. 0: no such limit."
    )
    hours: float = Field(
        0.0, title="Hours", description="The study ends after so many hours. 0: no such limit."
    )
    seed: int = Field(0, title="Seed", description="Seeds all random choices.")
    advanced: str = Field(
        ADVANCED,
        title="Advanced",
        description="YAML: any other field of a study file (docs/study-file.md). What stands above cannot be "
        "said here again; further metrics and options of the method are added.",
    )


def shown(title: str, description: str) -> Any:
    """How Prefect's form shows a parameter: Prefect itself keeps neither title nor description of a Field."""
    return Field(json_schema_extra={"title": title, "description": description})


def flat(body: Callable[[Form], T]) -> Callable[..., T]:
    """The function for a flow, with each field of the form as a parameter of its own, in their order."""

    @functools.wraps(body)
    def with_fields(**fields: Any) -> T:
        return body(Form.model_construct(**fields))

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else field.default,
            annotation=Annotated[field.annotation, shown(field.title or name, field.description or "")],
        )
        for name, field in Form.model_fields.items()
    ]
    returned = inspect.signature(body, eval_str=True).return_annotation
    signed = cast(Any, with_fields)
    # What Prefect goes by, in place of the body's own.
    signed.__signature__ = inspect.Signature(parameters, return_annotation=returned)
    return with_fields

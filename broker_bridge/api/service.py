"""What makes an AWS service: a package that says which model it follows and which functions it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from broker_bridge.api.context import Context
from broker_bridge.api.errors import ApiError

Operation = Callable[..., Mapping[str, object]]
"""`(context, *, member=…) -> result`: members by botocore's `xform_name`, what is below them and the result
by the model's own names. Timestamps are aware datetimes, blobs bytes; absent members are not passed."""

Amendments = Mapping[str, Mapping[str, Any]]
"""Traits (`required`, `max`, …) to be set on shapes of the model, by the shape's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One AWS service. An operation is a function in one of `modules` with its name (`create_stream`)."""

    name: str
    """The service in botocore (`iot`)."""
    signing_name: str
    """The service in a credential scope: known before the model is loaded, and held against it then."""
    target_prefix: str | None = None
    """What `X-Amz-Target` begins with, for services that have it; as `signing_name`."""
    modules: tuple[ModuleType, ...]
    invalid: type[ApiError]
    """What a request that breaks the model is answered with."""
    amend: Callable[[Context], Amendments]
    """What we ask of requests beyond the model, and settings that move its bounds."""
    translate: Callable[[Exception], ApiError | None]
    """An error of the rooms below, as this service calls it; None for one that is a fault of ours."""

"""A service's botocore model: what of it we keep, and the functions that it is bound to."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from broker_bridge.api.context import Context
from broker_bridge.api.errors import UnknownOperationException
from broker_bridge.api.routes import Router
from broker_bridge.api.service import Amendments, Operation, Service

REST_JSON, JSON = "rest-json", "json"


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """An operation of the model and the function that carries it out."""

    model: OperationModel
    function: Operation
    arguments: dict[str, str]
    """The function's argument by the name of the input's member."""


class LoadedService:
    """A service whose model is in memory: routes of all its operations, shapes of the implemented ones alone.

    (The whole `iot` model is 4 MB of dictionaries, half of it documentation.)
    """

    def __init__(self, service: Service, context: Context) -> None:
        """Raises ValueError where service and model do not fit together."""
        raw = _read(service.name)
        metadata = raw["metadata"]
        self.service = service
        self.protocol: str = metadata["protocol"]
        self.json_version: str = metadata.get("jsonVersion", "1.1")
        if self.protocol not in (REST_JSON, JSON):
            raise ValueError(f"{service.name} speaks {self.protocol}, not {REST_JSON} or {JSON}")
        signing_name = metadata.get("signingName", metadata["endpointPrefix"])
        if (signing_name, metadata.get("targetPrefix")) != (service.signing_name, service.target_prefix):
            raise ValueError(f"{service.name}: its model has another signing name or target prefix")
        functions = {
            name: function
            for name in raw["operations"]
            if (function := _function(service, xform_name(name))) is not None
        }
        self._names = frozenset(raw["operations"])
        self._model = ServiceModel(_pruned(raw, functions, service.amend(context)), service.name)
        self.operations: Mapping[str, BoundOperation] = {
            name: _bound(self._model.operation_model(name), function) for name, function in functions.items()
        }
        self.router = Router(
            {name: (op["http"]["method"], op["http"]["requestUri"]) for name, op in raw["operations"].items()}
            if self.protocol == REST_JSON
            else {}
        )

    def operation(self, name: str) -> BoundOperation:
        """The operation of that name. Raises UnknownOperationException."""
        try:
            return self.operations[name]
        except KeyError:
            if name in self._names:
                problem = f"{name} of {self.service.name} is not implemented by this service"
            else:
                problem = f"{self.service.name} has no operation {name[:100]!r}"
            raise UnknownOperationException(problem) from None

    def error_shape(self, code: str) -> Shape | None:
        """The model's shape of an error, or None: not every code stands in every model."""
        return self._model.shape_for(code) if code in self._model.shape_names else None


def _read(name: str) -> dict[str, Any]:
    # Only what botocore ships: a model of the user's own (~/.aws/models) must not change what we serve.
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    raw: dict[str, Any] = loader.load_service_model(name, "service-2")
    return raw


def _function(service: Service, name: str) -> Operation | None:
    for module in service.modules:
        function: Operation | None = getattr(module, name, None)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            return function
    return None


def _bound(model: OperationModel, function: Operation) -> BoundOperation:
    members = model.input_shape.members if model.input_shape else ()
    return BoundOperation(model, function, {name: xform_name(name) for name in members})


def _pruned(raw: dict[str, Any], kept: Mapping[str, Operation], amendments: Amendments) -> dict[str, Any]:
    """The kept operations, every shape that they or an error consist of, and no documentation."""
    operations = {name: _undocumented(raw["operations"][name]) for name in kept}
    waiting = [name for name, shape in raw["shapes"].items() if shape.get("exception")]
    for operation in operations.values():
        waiting += [operation[end]["shape"] for end in ("input", "output") if end in operation]
    shapes: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name in shapes:
            continue
        shape = _undocumented(raw["shapes"][name])
        if "members" in shape:
            shape["members"] = {key: _undocumented(member) for key, member in shape["members"].items()}
        shapes[name] = shape
        waiting += _references(shape)
    for name, traits in amendments.items():
        if name in shapes:
            shapes[name].update(traits)
    return {"metadata": raw["metadata"], "operations": operations, "shapes": shapes}


def _undocumented(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "documentation"}


def _references(shape: Mapping[str, Any]) -> Iterator[str]:
    for member in shape.get("members", {}).values():
        yield member["shape"]
    for role in ("member", "key", "value"):
        if role in shape:
            yield shape[role]["shape"]

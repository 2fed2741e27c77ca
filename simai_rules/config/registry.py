"""All backends by name: those that come with simai-rules, and those that other packages register.

A package registers a backend by an entry point of the group `simai_rules.backends`: its name is the backend's, its
value the module, which has `Config` (a BackendBase), `connect` and `make_server` (see docs/backends.md).
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model

from simai_rules.config.backends import BUILT_IN, BackendBase
from simai_rules.config.base import Strict
from simai_rules.errors import UserError

GROUP = "simai_rules.backends"


@cache
def third_party() -> dict[str, EntryPoint]:
    """Return the backends that installed packages register, by name; names of our own cannot be taken."""
    own = {model.model_fields["type"].default for model in BUILT_IN}
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in own}


@cache
def third_party_module(name: str) -> ModuleType:
    """Import the module of the backend `name`; raises UserError where it cannot be used as one."""
    entry = third_party()[name]
    where = f"The backend {name!r} of the package {entry.dist.name if entry.dist else '?'} ({entry.value})"
    try:
        module: ModuleType = entry.load()
    except Exception as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}.") from error
    missing = [part for part in ("Config", "connect", "make_server") if not hasattr(module, part)]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}. A backend's module has Config, connect and make_server.")
    config = module.Config
    if not (isinstance(config, type) and issubclass(config, BackendBase)) or type_of(config) != name:
        raise UserError(f"{where}: its Config has to be a BackendBase with type: Literal[{name!r}] = {name!r}.")
    return module


def type_of(model: type[BackendBase]) -> str:
    """Return the name of the backend whose options `model` holds."""
    return str(model.model_fields["type"].default)


@cache
def broken() -> dict[str, str]:
    """Return why a registered backend cannot be used, by name."""
    reasons = {}
    for name in third_party():
        try:
            third_party_module(name)
        except UserError as error:
            reasons[name] = str(error)
    return reasons


@cache
def option_models() -> dict[str, type[BackendBase]]:
    """Return the options' model of every backend that can be used, by name."""
    own = {type_of(model): model for model in BUILT_IN}
    return own | {name: third_party_module(name).Config for name in third_party() if name not in broken()}


class Options(Strict):
    """The options of every backend that an experiment may use, by name."""

    def of(self, name: str) -> BackendBase:
        """Return the options of backend `name`."""
        options: BackendBase = getattr(self, _field(name))
        return options


def _field(name: str) -> str:
    return name.replace("-", "_")


def _options_model() -> type[Options]:
    fields: dict[str, Any] = {
        _field(name): (Annotated[model, Field(alias=name)], model.model_validate({}))
        for name, model in option_models().items()
    }
    return create_model("BackendOptions", __base__=Options, __doc__=Options.__doc__, **fields)


if TYPE_CHECKING:
    BackendConfig = BackendBase
    BackendName = str
    BackendOptions = Options
else:
    # Made when the module is imported, so that pydantic checks the backends of other packages as it does our own.
    BackendConfig = Annotated[Union[tuple(option_models().values())], Field(discriminator="type")]  # noqa: UP007
    BackendName = Literal[tuple(option_models())]
    BackendOptions = _options_model()

"""All backends by name: those that come with simai-rules, and those that other packages register.

A package registers a backend by an entry point of the group `simai_rules.backends`: its name is the backend's, its
value the module, which has `Config` (a BackendBase), `connect` and `make_server` (see docs/backends.md). One that
cannot be used disturbs nobody else: the reason is told where its name is used, and by `simai-rules backend list`.
"""

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator

from simai_rules.config.backends import BUILT_IN, BackendBase
from simai_rules.config.base import Strict
from simai_rules.errors import UserError

GROUP = "simai_rules.backends"


NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What a backend may be called: it becomes a part of paths, of rule names and of regular expressions."""


def own_names() -> list[str]:
    """Return the names of the backends that come with simai-rules."""
    return [type_of(model) for model in BUILT_IN]


@cache
def registered() -> tuple[EntryPoint, ...]:
    """Return what installed packages register as backends."""
    return tuple(dict.fromkeys(entry_points(group=GROUP)))


@cache
def third_party() -> dict[str, EntryPoint]:
    """Return the backends that installed packages register, by name; names of our own cannot be taken."""
    return {entry.name: entry for entry in registered() if entry.name not in own_names()}


def origin(entry: EntryPoint) -> str:
    """Return the package that registers a backend, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"


@cache
def third_party_module(name: str) -> ModuleType:
    """Import the module of the backend `name`; raises UserError where it cannot be used as one."""
    entry = third_party()[name]
    where = f"The backend {name!r} of {origin(entry)} ({entry.value})"
    rivals = [other for other in registered() if other.name == name and other.value != entry.value]
    if rivals:
        others = " and ".join(origin(other) for other in rivals)
        raise UserError(f"{where} is registered by {others} too. Uninstall all but one.")
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: a backend's name takes small letters, digits and single '-', as in 'my-store'.")
    if hasattr(Options, _field(name)):
        raise UserError(f"{where}: this name is in use by simai-rules' own code. Give it another one.")
    try:
        module: ModuleType = entry.load()
    except (Exception, SystemExit) as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}.") from error
    missing = [part for part in ("Config", "connect", "make_server") if not hasattr(module, part)]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}. A backend's module has Config, connect and make_server.")
    config = module.Config
    if not (isinstance(config, type) and issubclass(config, BackendBase)) or type_of(config) != name:
        raise UserError(f"{where}: its Config has to be a BackendBase with type: Literal[{name!r}] = {name!r}.")
    try:
        config.model_validate({})
    except ValidationError as error:
        keys = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        text = f"its Config has options without a valid default ({keys}). See BackendBase.required"
        raise UserError(f"{where}: {text}.") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{where}: its Config fails with its defaults: {type(error).__name__}: {error}.") from error
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

    @model_validator(mode="before")
    @classmethod
    def _can_be_used(cls, raw: Any) -> Any:
        """Say of a registered backend why it cannot be used, where a pydantic error would call its name unknown."""
        return raw if not isinstance(raw, dict) else dict(zip(map(_usable, raw), raw.values(), strict=True))

    def of(self, name: str) -> BackendBase:
        """Return the options of backend `name`."""
        options: BackendBase = getattr(self, _field(name))
        return options


def _usable(name: Any) -> Any:
    """Return `name`; raises ValueError with the reason where it is that of a backend that cannot be used."""
    if isinstance(name, str) and name in broken():
        raise ValueError(broken()[name])
    return name


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
    BackendName = Annotated[Literal[tuple(option_models())], BeforeValidator(_usable)]
    BackendOptions = _options_model()

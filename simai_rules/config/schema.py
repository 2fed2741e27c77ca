"""The JSON schema of config.yaml, with the docstrings of the models' attributes as descriptions."""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from simai_rules.config.base import Strict
from simai_rules.config.experiment import ExperimentConfig


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config.yaml."""
    schema = ExperimentConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "simai-rules experiment"
    models = {model.__name__: model for model in _models(Strict)}
    _describe(schema, ExperimentConfig)
    for name, definition in schema["$defs"].items():
        _describe(definition, models[name])
    return schema


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            texts |= _attribute_docstrings(parent)
    aliases = {field.alias or name: name for name, field in model.model_fields.items()}
    for name, entry in schema.get("properties", {}).items():
        entry.pop("title", None)  # pydantic's are the names again
        if aliases[name] in texts:
            entry["description"] = texts[aliases[name]]


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the string literals that follow the attributes in the source of `model`, without its parents'."""
    try:
        source = inspect.getsource(model)
    except OSError:  # made by the registry of backends, and not written down anywhere
        return {}
    [definition] = ast.parse(textwrap.dedent(source)).body
    texts = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for attribute, after in pairwise(body):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(attribute.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            texts[attribute.target.id] = inspect.cleandoc(after.value.value)
    return texts


def _models(parent: type[BaseModel]) -> list[type[BaseModel]]:
    return [model for child in parent.__subclasses__() for model in (child, *_models(child))]

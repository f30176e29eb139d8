"""What every form is made of: boxes with bounds, empty ones that keep what was there."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flows.forms.values import PATHS, AnyConfig, StageName, empty_means, replaced

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def box(description: str) -> Any:
    """Return a box of a form that may stay empty."""
    return Field(default=None, description=description)


class Form(BaseModel):
    """A box of the form; unknown names are refused.

    Its schema is written for Prefect's page: a box that may stay empty is one box, not a choice between a value and
    "None", and says which value it has then. A server accepts null for it all the same.

    Attributes:
        stage: Stage whose values the boxes have where they are empty; None for forms within a form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: ClassVar[StageName | None] = None

    def given(self, *names: str) -> dict[str, Any]:
        """Return the filled-in fields among ``names``."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def at_paths(self, spec: AnyConfig, paths: Mapping[str, str]) -> AnyConfig:
        """Return a config with the filled-in boxes among ``paths``, each at its path."""
        return replaced(spec, {paths[name]: value for name, value in self.given(*paths).items()})

    def at_own_paths(self, spec: AnyConfig, *others: str) -> AnyConfig:
        """Return a spec of the form's stage with its filled-in boxes; ``others`` are set elsewhere."""
        assert self.stage is not None
        return self.at_paths(spec, {name: path for name, path in PATHS[self.stage].items() if name not in others})

    @model_serializer(mode="wrap")
    def _filled_in(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave empty boxes out, so that an empty form is ``{}`` on the server."""
        return {name: value for name, value in handler(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        boxes: dict[str, dict[str, Any]] = handler.resolve_ref_schema(schema).get("properties", {})
        for position, (name, box) in enumerate(boxes.items()):
            _make_plain(box)
            box["position"], box["title"] = position, name
            said = box.get("description", "")
            if cls.stage is not None and "Empty:" not in said and (means := empty_means(cls.stage, name)):
                box["description"] = f"{said} {means}".strip()
        return schema


def _make_plain(box: dict[str, Any]) -> None:
    """Make one box of a choice between a value and null, where the value has one.

    A switch would be off where nobody touched it, so a choice of yes and no is a list.
    """
    kinds = [kind for kind in box.get("anyOf", []) if kind.get("type") != "null"]
    if len(kinds) != 1 or "$ref" in kinds[0] or kinds[0].get("type") == "object":
        return
    del box["anyOf"]
    box.pop("default", None)
    box.update(kinds[0])
    if box["type"] == "boolean":
        del box["type"]
        box["enum"] = [True, False]
    if "enum" in box:
        box["enum"] = [*box["enum"], None]  # else the server would refuse a null

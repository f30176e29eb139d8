"""What every form is made of: boxes with bounds, empty ones that keep what was there."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Form(BaseModel):
    """A box of the form; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self, *names: str) -> dict[str, Any]:
        """Return the filled-in fields among ``names``."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

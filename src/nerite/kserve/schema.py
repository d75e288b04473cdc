# SPDX-License-Identifier: Apache-2.0
"""What all resource models share: strictness, Kubernetes' names and Go's names for types.

KServe refuses a wrong type with Go's own words, which name the Go struct and type. Models carry
those names (`go_struct`, `via`, the aliases below), so that `refusals` can say the same. Fields
are written in snake case and read in camel case. The other modules take pydantic's names from
here, so that the one error for a missing pydantic stands in one place.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from nerite.errors import MissingExtra

try:
    from pydantic import (
        AfterValidator,
        BaseModel,
        ConfigDict,
        Field,
        StrictBool,
        StrictInt,
        StrictStr,
        ValidationError,
    )
    from pydantic.alias_generators import to_camel
except ModuleNotFoundError as missing:  # pragma: no cover - needs an environment without it
    raise MissingExtra("reading KServe's resources", "pydantic", "kserve") from missing

__all__ = [
    "DNS_NAME", "AfterValidator", "BaseModel", "ConfigDict", "Field", "Flag", "GoType", "Int32",
    "Int64", "Labels", "Passed", "Schema", "Text", "ValidationError", "prune_nulls", "to_camel",
]  # fmt: skip


class GoType(str):
    """The name of a Go type, carried in an annotation."""


Text = Annotated[StrictStr, GoType("string")]
Flag = Annotated[StrictBool, GoType("bool")]
Int32 = Annotated[StrictInt, Field(ge=-(2**31), lt=2**31), GoType("int32")]
Int64 = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63), GoType("int64")]
Labels = dict[StrictStr, Text]
# A part of Kubernetes that KServe only passes on: any mapping.
Passed = dict[str, Any]

DNS_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Schema(BaseModel):
    """A mapping that holds the fields named here and no others."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=False
    )

    # The Go struct's name, and for fields of embedded structs the names that Go puts before them.
    go_struct: ClassVar[str] = ""
    via: ClassVar[dict[str, str]] = {}


def prune_nulls(value: Any) -> Any:
    """`value` without keys whose value is null, which Kubernetes reads as absent."""
    if isinstance(value, dict):
        return {key: prune_nulls(item) for key, item in value.items() if item is not None}
    return [prune_nulls(item) for item in value] if isinstance(value, list) else value

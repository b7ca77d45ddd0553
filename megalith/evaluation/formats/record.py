"""One record of a task's file, whose fields are asked for by name and kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from megalith.errors import InputError


@dataclass(frozen=True)
class Record:
    """The fields of one question, and where they stand."""

    values: Mapping[str, Any]
    where: str
    """File and line, for errors."""
    number: int
    """Position among the records of the task, from 0."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            known = ", ".join(map(str, self.values)) or "none"
            raise InputError(f"this record has no field {name!r} (its fields: {known}).", where=self.where)
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        """A field that must be text."""
        value = self[name]
        if not isinstance(value, str):
            raise InputError(f"the field {name!r} is {value!r}, and text is wanted.", where=self.where)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that must be a list of texts."""
        value = self[name]
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise InputError(f"the field {name!r} is {value!r}, and a list of texts is wanted.", where=self.where)
        return tuple(value)

    def place(self, name: str, values: tuple[Any, ...]) -> int:
        """The position of a field's value among those that it may have."""
        value = self[name]
        if isinstance(value, str | int) and not isinstance(value, bool):
            value = next((one for one in values if str(one) == str(value)), value)
        if value not in values:
            allowed = ", ".join(map(repr, values))
            raise InputError(f"the field {name!r} is {value!r}, and one of {allowed} is wanted.", where=self.where)
        return values.index(value)

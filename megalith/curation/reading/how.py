"""The settings by which files are read: which fields hold the text, its address and the rest, and where texts part."""

from dataclasses import asdict, dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class How:
    """How the files of one data set are read."""

    text_field: str | None = None
    """The field or column of the text, with dots for a field within a field; None: `text`, `content`, …"""
    url_field: str | None = None
    id_field: str | None = None
    metadata: tuple[str, ...] = ()
    """Fields that are kept beside the text; `*`: all others."""
    text_separator: str = AUTO
    """The separator of the documents of a text file: auto, file, line, blank_line, or a marker."""
    passage_characters: int = 0
    """Texts that stand for a whole corpus are cut into passages of about so many characters; 0: never."""
    few: bool = False
    """Whether the data set has so few files that a long text stands for a corpus."""
    plain_text_pages: bool = False
    """Whether pages of type text/plain are documents."""

    @property
    def told(self) -> dict[str, Any]:
        """The values, as JSON can hold them."""
        return asdict(self) | {"metadata": list(self.metadata)}


AS_IT_IS = How()

"""The tensors of a Hugging Face directory: `model.safetensors`, or shards with an index. Pickles are never opened."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from megalith.errors import InputError, UnsupportedError
from megalith.input_files import read_json
from megalith.recipe.yaml_values import shorten
from megalith.training.checkpoint.tensors import DTYPES, Spec

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
_FLOATS = ("BF16", "F16", "F32", "F64")


class SafetensorsFiles:
    """Tensors by name, over one file or several."""

    def __init__(self, directory: Path) -> None:
        """Open them. Raises InputError where one is missing, damaged or beyond the directory; nothing is read yet."""
        self.files = _files(directory)
        self._open = {file: _opened(file) for file in self.files}
        self._place: dict[str, Path] = {}
        for file, content in self._open.items():
            for name in content.keys():  # noqa: SIM118 - the library's object is no mapping
                if name in self._place:
                    raise InputError(
                        f"{shorten(name)} stands in {self._place[name].name} and in {file.name}.", where=str(directory)
                    )
                self._place[name] = file
        self.specs: Mapping[str, Spec] = {name: self._spec(name) for name in self._place}

    def read(self, name: str) -> Tensor:
        """The tensor of this name. Raises InputError where it cannot be read."""
        file = self._place[name]
        try:
            tensor: Tensor = self._open[file].get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{shorten(name)} cannot be read: {error}.", where=str(file)) from error
        return tensor

    def _spec(self, name: str) -> Spec:
        file = self._place[name]
        part = self._open[file].get_slice(name)
        kind = part.get_dtype()
        if kind not in DTYPES:
            raise UnsupportedError(
                f"{shorten(name)} has numbers of the type {kind}; weights are read in {', '.join(_FLOATS)}.",
                where=str(file),
            )
        return Spec(DTYPES[kind], tuple(part.get_shape()))


def _files(directory: Path) -> tuple[Path, ...]:
    index = directory / INDEX
    if index.is_file():
        return tuple(_of_index(index))
    if (directory / WEIGHTS).is_file():
        return (directory / WEIGHTS,)
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise InputError(
            f"the weights of this model are in {pickles[0]}, whose format can run any program when it is read, and "
            f"{WEIGHTS} is missing.",
            where=str(directory),
            mend="Save it as safetensors (`save_pretrained` of transformers does so) on a machine where that is safe.",
        )
    raise InputError(
        f"{WEIGHTS} is missing.",
        where=str(directory),
        mend=f"Pass a directory with config.json, tokenizer.json and {WEIGHTS}, or a .gguf file.",
    )


def _of_index(index: Path) -> list[Path]:
    told: Any = read_json(index)
    names = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError("weight_map is missing or damaged.", where=str(index))
    files = []
    for name in sorted(set(names.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"weight_map names {shorten(name)}, which is not a .safetensors file of this directory.",
                where=str(index),
            )
        files.append(index.parent / name)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} shards missing: {missing[0]}.", where=str(index.parent), mend="Fetch it."
        )
    return files


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"this file of weights is cut short or damaged ({error}).", where=str(file), mend="Fetch it again."
        ) from error

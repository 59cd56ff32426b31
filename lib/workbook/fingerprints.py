"""What identifies the inputs of a run, so that the run cache never takes one for another.

Data counts by value, weights by every byte, functions by their code and all that they use.
"""

import dis
import functools
import hashlib
import importlib.metadata
import importlib.util
import marshal
import platform
import site
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import numpy as np
import tokenizers
import torch
import xxhash
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from .errors import WorkbookError
from .hashing import code_hash

PLAIN = {type(None), bool, int, float, complex, str, bytes, type(...)}
# Attributes of Hugging Face's objects that change with use or with their place on the disk.
NOISE = {
    "_in_target_context_manager", "_is_hf_initialized", "_name_or_path", "_original_object_hash",
    "_merged",  # which LoRAs are in the weights, whose bytes tell it
    "deprecation_warnings", "files_loaded", "init_inputs", "init_kwargs", "name_or_path",
    "transformers_version", "verbose", "warnings_issued",
}  # fmt: skip
# Members of a class that Python makes for itself.
UNREAD = {
    "__dict__", "__doc__", "__firstlineno__", "__module__", "__slotnames__",
    "__static_attributes__", "__weakref__", "_abc_impl",
}  # fmt: skip
# Where installed code lies: its name and version tell what it does.
INSTALLED = [
    Path(folder).resolve()
    for folder in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
]
# The instructions that read a global (the third since Python 3.12) or import a module.
OUTWARD = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "IMPORT_NAME"}
HAS_DOCSTRING = 0x4000000  # a flag of code objects since Python 3.13


def fingerprint(value) -> str:
    """Return a hash (32 hex digits) of a value and all that it leads to.

    Models count with every byte of their weights and buffers, number formats, what learns, mode,
    configuration, hooks; functions with code, defaults, closure, and the globals they use; code of
    installed packages by name and version. Raises WorkbookError for what cannot be told apart,
    such as an open file.
    """
    return fingerprints({"value": value})["value"]


def fingerprints(inputs: Mapping[str, object]) -> dict[str, str]:
    """Return the fingerprint of each input; a weight that several share is read once."""
    reader, found = _Reader(), {}
    for name, value in inputs.items():
        try:
            found[name] = reader.digest(value).hex()
        except (_Unreadable, RecursionError) as error:
            what = str(error) if isinstance(error, _Unreadable) else "something so deeply nested"
            raise WorkbookError(
                f"The run cache cannot tell {what} from another, found in {name!r}: use plain "
                "data, arrays, models, tokenizers and functions of these, or do without the cache."
            ) from error
    return found


class _Unreadable(Exception):
    """A value of which nothing is known but what the message calls it."""


class _Reader:
    """Hashes values from the bottom up; each object is read once, also if it holds itself."""

    def __init__(self):
        self.done: dict[int, tuple] = {}  # with the value, so that no other one gets its id
        self.open: dict[int, int] = {}

    def digest(self, value) -> bytes:
        """Return 16 bytes that stand for the value."""
        if type(value) in PLAIN:
            return xxhash.xxh3_128_digest(marshal.dumps(value, 0))
        if id(value) in self.done:
            return self.done[id(value)][1]
        if id(value) in self.open:
            return xxhash.xxh3_128_digest(b"%d above" % (len(self.open) - self.open[id(value)]))
        self.open[id(value)] = len(self.open)
        kind = [] if type(value) is type else [type(value)]
        parts = [self.digest(part) for part in (*kind, *_parts(value))]
        del self.open[id(value)]
        self.done[id(value)] = value, xxhash.xxh3_128_digest(b"".join(parts))
        return self.done[id(value)][1]


def _parts(value) -> Iterator:
    """Return the values that, with its type, make up a value."""
    read = READ_EXACTLY.get(type(value))
    if read is None:
        read = next((read for kind, read in READ.items() if isinstance(value, kind)), _as_pickled)
    return read(value)


def _as_pickled(value) -> Iterator:
    """Yield what pickle would rebuild an object from."""
    try:
        made = value.__reduce_ex__(4)
    except Exception as error:
        raise _Unreadable(f"one {type(value).__name__}") from error
    if isinstance(made, str):  # pickle would import it by name
        module = str(getattr(value, "__module__", ""))
        yield from (module, _origin(module), made)
        return
    function, arguments, state, items, pairs = (*made, None, None, None)[:5]
    yield from (function, arguments, state, list(items or ()), list(pairs or ()))


# --- data


def _sequence(value) -> Iterator:
    if set(map(type, value)) <= PLAIN:  # token ids, by the thousand
        yield marshal.dumps(list(value), 0)
    else:
        yield from value


def _mapping(value) -> Iterator:
    for key, item in value.items():
        yield from (key, item)


def _set(value) -> Iterator:
    reader = _Reader()
    yield sorted(reader.digest(item) for item in value)


def _array(value: np.ndarray) -> Iterator:
    yield from (str(value.dtype), value.shape)
    yield value.tolist() if value.dtype.hasobject else value.tobytes()


def _dataset(value: datasets.Dataset) -> Iterator:
    yield from (str(value.features), value.format["type"])
    yield value.with_format("arrow")[:].to_pydict()


def _path(value: Path) -> Iterator:
    yield str(value)
    if value.is_file():
        with value.open("rb") as file:
            yield hashlib.file_digest(file, xxhash.xxh3_128).digest()


# --- models and tokenizers


def _tensor(value: torch.Tensor) -> Iterator:
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        raise _Unreadable(f"one {type(value).__name__}")
    yield from (str(value.dtype), tuple(value.shape), value.requires_grad)
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        yield vars(value)
    flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    yield xxhash.xxh3_128_digest(flat.view(torch.uint8).numpy())


def _model(model: torch.nn.Module) -> Iterator:
    for name, module in model.named_modules(remove_duplicate=False):
        yield from (name, type(module), _settings(module))
    first = {}  # tied weights learn together
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            yield from (name, first.setdefault(id(tensor), name), tensor)


def _settings(module: torch.nn.Module) -> dict:
    """Return a module's attributes apart from weights and submodules; hooks without their ids."""
    held = {"_parameters", "_buffers", "_modules"}
    found = {name: item for name, item in _attributes(module).items() if name not in held}
    hooks = {n for n in found if "hooks" in n and isinstance(found[n], dict)}  # {id: …}
    return found | {name: list(found[name].values()) for name in hooks}


def _attributes(value) -> dict:
    return {name: item for name, item in sorted(vars(value).items()) if name not in NOISE}


def _configured(value) -> Iterator:
    yield _attributes(value)


def _rust_tokenizer(value: tokenizers.Tokenizer) -> Iterator:
    # Truncation and padding stand before; each call sets them anew.
    yield value.to_str().partition('"added_tokens":')[2]


# --- code


def _function(function: types.FunctionType) -> Iterator:
    module = function.__globals__.get("__name__")
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    yield [_content(cell) for cell in function.__closure__ or ()]
    yield {name: item for name, item in vars(function).items() if name != "__wrapped__"}
    if _origin(module):
        yield from (module, _origin(module))
    else:
        yield from _globals_used(function)


def _content(cell: types.CellType):
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return types.CellType


def _globals_used(function: types.FunctionType) -> Iterator:
    """Yield names and values of the globals that a function and the functions in it use."""
    steps = set(_steps(function.__code__))
    for name in sorted(name for step, name in steps if step != "IMPORT_NAME"):
        if name in function.__globals__:
            yield from (name, function.__globals__[name])
    for name in sorted(name for step, name in steps if step == "IMPORT_NAME" and name):
        yield from (name, sys.modules.get(name) or _origin(name) or _source(name))


def _steps(code: types.CodeType) -> Iterator[tuple[str, object]]:
    for step in dis.get_instructions(code):
        if step.opname in OUTWARD:
            yield step.opname, step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _steps(constant)


def _code(code: types.CodeType) -> Iterator:
    """Yield the instructions and what they use; no line numbers, comments, docstrings."""
    yield from (code.co_code, code.co_exceptiontable, code.co_flags, code.co_names)
    yield from (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    yield from (code.co_varnames, code.co_freevars, code.co_cellvars)
    yield code.co_consts[1:] if _has_docstring(code) else code.co_consts


def _has_docstring(code: types.CodeType) -> bool:
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & HAS_DOCSTRING)
    # Until then it was the first constant of each `def`, None where there is none.
    is_def = code.co_flags & 1 and not code.co_name.startswith("<")
    return bool(is_def and code.co_consts)


def _class(cls: type) -> Iterator:
    module = str(cls.__module__)  # in compiled code it may be a descriptor
    yield from (module, cls.__qualname__, _origin(module))
    if not _origin(module):
        yield cls.__bases__
        for name, member in sorted(vars(cls).items()):
            if name not in UNREAD:
                yield from (name, member)


def _module(module: types.ModuleType) -> Iterator:
    name = module.__name__
    yield from (name, _origin(name) or _source(name))
    if not _origin(name):  # what it takes from other files of the reader's own
        code = types.FunctionType | types.ModuleType | type
        yield [item for item in vars(module).values() if isinstance(item, code)]


@functools.cache
def _origin(module: str | None) -> str | None:
    """Return package and version of an installed module, None for code of the reader's own."""
    package = (module or "").partition(".")[0]
    if package == __package__:
        return module  # the key covers the library's own code
    file = None if package in ("", "__main__") else _file(module) or _file(package)
    if file in ("built-in", "frozen"):
        return f"{module} of Python {platform.python_version()}"
    if file is None or not any(Path(file).resolve().is_relative_to(at) for at in INSTALLED):
        return None
    return f"{module} of {package} {_version(package)}"


def _version(package: str) -> str:
    if package in sys.stdlib_module_names:
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the distribution has another name
        return str(getattr(sys.modules.get(package), "__version__", None))


def _file(module: str) -> str | None:
    try:
        return importlib.util.find_spec(module).origin
    except (ImportError, ValueError, AttributeError):
        return None


def _source(module: str) -> str:
    """Return the hash of a module of the reader's own."""
    file = _file(module)
    if file is None or not file.endswith(".py"):
        raise _Unreadable(f"one state of the module {module}")
    return code_hash(Path(file).read_text(encoding="utf-8"))


def _inside(*names: str):
    """Return a reader of these attributes."""
    return lambda value: (getattr(value, name) for name in names)


READ_EXACTLY = {
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    types.MappingProxyType: _mapping,
    type({}.keys()): _sequence,
    type({}.values()): _sequence,
    type({}.items()): _sequence,
    set: _set,
    frozenset: _set,
    np.ndarray: _array,
    types.FunctionType: _function,
    types.CodeType: _code,
    types.ModuleType: _module,
    staticmethod: _inside("__func__"),
    classmethod: _inside("__func__"),
    property: _inside("fget", "fset", "fdel"),
    functools.cached_property: _inside("func"),
    functools._lru_cache_wrapper: _inside("__wrapped__"),
    types.GetSetDescriptorType: _inside("__name__"),
    types.MemberDescriptorType: _inside("__name__"),
}
READ = {
    torch.nn.Module: _model,
    torch.Tensor: _tensor,
    PreTrainedTokenizerBase: _configured,
    PreTrainedConfig: _configured,
    GenerationConfig: _configured,
    tokenizers.Tokenizer: _rust_tokenizer,
    datasets.Dataset: _dataset,
    Path: _path,
    type: _class,
}

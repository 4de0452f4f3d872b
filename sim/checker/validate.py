# SPDX-License-Identifier: BSD-2-Clause
"""Is a call log what docs/contracts.md says? The rules may then take its values as they are.

A value may be missing or null (older logs have fewer); one that is there has the right type. Calls and arguments that are
not known are left alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sim.record import RecordError

__all__ = ["bounded", "check_calls"]

_MAX = 1 << 40  # no address, length or count of this machine is larger


def _int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MAX <= value <= _MAX


def _pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _int(value[0]) and _int(value[1])


def _pairs(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_pair(pair) for pair in value)


def _mdl(value: Any) -> bool:
    return isinstance(value, dict) and _pairs(value.get("ranges")) and isinstance(value.get("locked", True), bool)


def _id(value: Any) -> bool:
    return isinstance(value, str) or _int(value)


def _adapter(value: Any) -> bool:
    if not isinstance(value, dict):
        return _id(value)
    return _id(value.get("id", 0)) and all(value.get(n) is None or _int(value[n]) for n in ("version", "channel"))


def _device(value: Any) -> bool:
    if not isinstance(value, dict):
        return _id(value)
    numbers = ("mask", "coherent_mask", "min_align", "maximum_segment", "segment_boundary", "segment_unit")
    return _id(value.get("id", 0)) and all(value.get(n) is None or _natural(value[n]) for n in numbers)


def _description(value: Any) -> bool:
    numbers = ("version", "maximum_length", "dma_address_width", "maximum_segment", "segment_boundary", "segment_unit")
    return isinstance(value, dict) and all(value.get(n) is None or _natural(value[n]) for n in numbers)


def _natural(value: Any) -> bool:
    return _int(value) and value >= 0


def _registers(value: Any) -> bool:
    if not isinstance(value, dict):
        return _id(value)
    return _id(value.get("id", 0)) and (value.get("count") is None or _natural(value["count"]))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)


Test = tuple[Callable[[Any], bool], str]
_INT: Test = (_int, "an integer")
_FLAG: Test = (_flag, "a boolean")
_TEXT: Test = (_text, "a text")
_PAIR: Test = (_pair, "[address, length]")
_PAIRS: Test = (_pairs, "a list of [address, length]")
_ID: Test = (_id, "an integer or a text")

#: Argument -> what it must be, on every call but those of :data:`_SPECIAL`.
_ARGUMENTS: dict[str, Test] = {
    "mdl": (_mdl, "{id, ranges: [[address, length], ...]}"),
    "adapter": (_adapter, "{id, version, master, channel}"),
    "device": (_device, "{id, mask, ...}"),
    "description": (_description, "an object with the fields of DEVICE_DESCRIPTION"),
    "registers": (_registers, "{id, count} or an id"),
    **dict.fromkeys(("ranges", "entries", "source", "target"), _PAIRS),
    **dict.fromkeys(("bounce", "descriptors"), _PAIR),
    **dict.fromkeys(("offset", "length", "address", "dma", "start", "end", "bits", "map_registers", "buffer_bytes"), _INT),
    **dict.fromkeys(("information", "count", "action", "device_offset", "width", "register"), _INT),
    **dict.fromkeys(("read_operation", "dma_operation", "write_to_device", "cache_enabled", "whole", "to_device"), _FLAG),
    **dict.fromkeys(("synchronous", "completion"), _FLAG),
    **dict.fromkeys(("direction", "kind", "op", "requested_by", "what", "owner", "argument"), _TEXT),
    **dict.fromkeys(("list", "context", "buffer", "pool"), _ID),
    "attrs": (_texts, "a list of texts"),
}

_SPECIAL: dict[str, dict[str, Test]] = {
    "UncheckedUse": {"source": _PAIR, "call": _TEXT},
    "CacheMaintenance": {"target": _TEXT},
    "ResultChecked": {"call": _INT},
}


def _object(**fields: Test) -> Test:
    def good(value: Any) -> bool:
        return isinstance(value, dict) and all(value.get(name) is None or test(value[name]) for name, (test, _) in fields.items())

    return good, "{" + ", ".join(fields) + "}"


_STATUS: Test = (lambda value: isinstance(value, (int, str)), "a status")
_MAPPED = _object(status=_STATUS, list=_ID, length=_INT, elements=_PAIRS)
_BUFFER = _object(buffer=_ID, address=_INT, dma=_INT, length=_INT, cached=_FLAG)
#: Call -> what its result must be, if it is not null.
_RESULTS: dict[str, Test] = {
    "IoGetDmaAdapter": _object(adapter=_ARGUMENTS["adapter"], map_registers=_INT),
    "MapTransfer": _PAIR,
    **dict.fromkeys(("MapTransferEx", "GetScatterGatherList", "BuildScatterGatherList"), _MAPPED),
    **dict.fromkeys(("GetScatterGatherListEx", "BuildScatterGatherListEx", "dma_map_sg"), _MAPPED),
    **dict.fromkeys(("CalculateScatterGatherList", "GetDmaTransferInfo"), _object(status=_STATUS, list_bytes=_INT)),
    **dict.fromkeys(("AllocateCommonBuffer", "AllocateCommonBufferEx", "dma_alloc_coherent", "dma_alloc_noncoherent"), _BUFFER),
    "dma_pool_alloc": _BUFFER,
    "dma_pool_create": _object(pool=_ID),
    "AllocateMemory": _object(address=_INT, length=_INT),
    **dict.fromkeys(("dma_map_single", "dma_map_page"), _INT),
    **dict.fromkeys(("GetDmaAlignment", "ReadDmaCounter"), _INT),
    **dict.fromkeys(("FlushAdapterBuffers", "PutScatterGatherList", "CancelAdapterChannel", "dma_mapping_error"), _FLAG),
    **dict.fromkeys(("AllocateAdapterChannel", "AllocateAdapterChannelEx", "FlushAdapterBuffersEx"), _STATUS),
}
#: These give the address of a buffer whenever they give one at all: without it nothing can be said of it.
_WHOLE = {"AllocateCommonBuffer": ("buffer", "address", "length"), "AllocateCommonBufferEx": ("buffer", "address", "length"),
          "dma_alloc_coherent": ("buffer", "address", "length"), "dma_alloc_noncoherent": ("buffer", "address", "length"),
          "dma_pool_alloc": ("buffer", "address", "length")}  # fmt: skip


def bounded(calls: Sequence[dict[str, Any]], limit: int) -> Sequence[dict[str, Any]]:
    """The calls with lengths cut at ``limit`` bytes: a wild length must not cost a wild time. The same list if none is longer."""
    if not any(_wild(record.get("args"), limit) or _wild(record.get("result"), limit) for record in calls):
        return calls
    out = []
    for record in calls:
        changed = {key: _cut(record[key], limit) for key in ("args", "result") if _wild(record.get(key), limit)}
        out.append({**record, **changed})
    return out


def _wild(value: Any, limit: int) -> bool:
    if isinstance(value, dict):
        length = value.get("length")
        return (isinstance(length, int) and length > limit) or any(_wild(v, limit) for v in value.values())
    if isinstance(value, (list, tuple)):
        return value[1] > limit if _pair(value) else any(_wild(v, limit) for v in value)
    return False


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, dict):
        return {key: min(v, limit) if key == "length" and isinstance(v, int) else _cut(v, limit) for key, v in value.items()}
    if _pair(value):
        return [value[0], min(value[1], limit)]
    return [_cut(v, limit) for v in value] if isinstance(value, (list, tuple)) else value


def check_calls(calls: Iterable[dict[str, Any]]) -> None:
    """Checks every record of a call log.

    Raises
    ------
    RecordError
        At the first record that is not what it must be; the text names the record, the call, the field, its rule and value.
    """
    open_calls: dict[int, str] = {}
    last = 0
    for number, record in enumerate(calls, 1):
        if not isinstance(record, dict):
            raise RecordError(f"call log: record {number} must be an object, not {record!r}")
        name = record.get("name")
        where = f"call log: record {number} ({name if isinstance(name, str) else '?'}):"
        if record.get("phase") not in ("begin", "end"):
            raise RecordError(f"{where} phase must be 'begin' or 'end', not {record.get('phase')!r}")
        _check(where, "cycle", record.get("cycle"), (_natural, "an integer from 0 on"), needed=True)
        if record["cycle"] < last:
            raise RecordError(f"{where} cycle must not be before {last}, not {record['cycle']}")
        last = record["cycle"]
        _check(where, "call", record.get("call"), _INT, needed=True)
        if record["phase"] == "begin":
            _begin(where, record, open_calls)
        else:
            _end(where, record, open_calls)


def _begin(where: str, record: dict[str, Any], open_calls: dict[int, str]) -> None:
    _check(where, "name", record.get("name"), _TEXT, needed=True)
    if record["call"] in open_calls:
        raise RecordError(f"{where} call must be a new number, not {record['call']}, which is in progress")
    open_calls[record["call"]] = record["name"]
    site = record.get("site")
    if site is not None and not (
        isinstance(site, (list, tuple)) and len(site) == 3 and [type(part) for part in site] == [str, int, str]
    ):
        raise RecordError(f"{where} site must be [file, line, function], not {site!r}")
    for field, test in (("parent", _INT), ("thread", _INT), ("role", _TEXT), ("irql", _INT)):
        _check(where, field, record.get(field), test)
    args = record.get("args")
    if args is not None and not isinstance(args, dict):
        raise RecordError(f"{where} args must be an object, not {args!r}")
    special = _SPECIAL.get(record["name"], {})
    for argument, value in (args or {}).items():
        test = special.get(argument) or _ARGUMENTS.get(argument)
        if test is not None:
            _check(where, argument, value, test)


def _end(where: str, record: dict[str, Any], open_calls: dict[int, str]) -> None:
    name = open_calls.pop(record["call"], None)
    if record.get("error") is not None and not isinstance(record["error"], str):
        raise RecordError(f"{where} error must be a text, not {record['error']!r}")
    if name is None or record.get("error") is not None:
        return
    result = record.get("result")
    if name in _RESULTS:
        _check(where, "result", result, _RESULTS[name])
    if isinstance(result, dict):
        for field in _WHOLE.get(name, ()):
            _check(where, f"result.{field}", result.get(field), _ID if field == "buffer" else _INT, needed=True)


def _check(where: str, field: str, value: Any, test: Test, *, needed: bool = False) -> None:
    if value is None and not needed:
        return
    if not test[0](value):
        shown = repr(value)
        raise RecordError(f"{where} {field} must be {test[1]}, not {shown if len(shown) < 80 else shown[:77] + '...'}")

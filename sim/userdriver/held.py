# SPDX-License-Identifier: BSD-2-Clause
"""What the call log says that a driver took and never gave back."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["call_text", "last_open_call", "still_held"]

#: Acquiring call: key of its result that names what was taken ("" for the result itself), and what to call it.
_TAKEN = {
    "IoGetDmaAdapter": ("adapter", "DMA adapter"),
    "GetScatterGatherList": ("list", "scatter/gather list"),
    "BuildScatterGatherList": ("list", "scatter/gather list"),
    "GetScatterGatherListEx": ("list", "scatter/gather list"),
    "BuildScatterGatherListEx": ("list", "scatter/gather list"),
    "AllocateCommonBuffer": ("buffer", "common buffer"),
    "AllocateCommonBufferEx": ("buffer", "common buffer"),
    "AllocateMemory": ("address", "memory"),
    "dma_map_single": ("", "mapping"),
    "dma_map_page": ("", "mapping"),
    "dma_alloc_coherent": ("address", "coherent memory"),
    "dma_alloc_noncoherent": ("address", "non-coherent memory"),
}
#: Releasing call: argument that names it, and what it gives back.
_GIVEN = {
    "PutDmaAdapter": ("adapter", "DMA adapter"),
    "PutScatterGatherList": ("list", "scatter/gather list"),
    "FreeCommonBuffer": ("buffer", "common buffer"),
    "FreeMemory": ("address", "memory"),
    "dma_unmap_single": ("dma", "mapping"),
    "dma_unmap_page": ("dma", "mapping"),
    "dma_free_coherent": ("address", "coherent memory"),
    "dma_free_noncoherent": ("address", "non-coherent memory"),
}
_LIVES_ELSEWHERE = ("stack", "module")  # nobody frees a local or static variable
_KEEPS = (1, 3)  # AdapterControl: KeepObject, DeallocateObjectKeepRegisters


def _site(record: Mapping[str, Any]) -> str:
    file, line, _ = record["site"]
    return f"{Path(file).name}:{line}" if line else "?"


def _key(value: Any, name: str) -> Any:
    if name:
        value = value.get(name) if isinstance(value, dict) else None
    return value.get("id") if isinstance(value, dict) else value


def still_held(calls: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each thing that a call took and none gave back: what, its number or address, and the line that took it."""
    begun: dict[int, Mapping[str, Any]] = {}
    held: dict[tuple[str, Any], str] = {}
    for record in calls:
        name = record["name"]
        if record["phase"] == "begin":
            begun[record["call"]] = record
            continue
        begin = begun.get(record["call"])
        if begin is None or record.get("error"):
            continue
        args, result = begin["args"], record.get("result")
        if args.get("kind") in _LIVES_ELSEWHERE:
            continue
        if name in _TAKEN:
            key, what = _TAKEN[name]
            number = _key(result, key)
            if number is not None:
                shown = f"{number:#x}" if number >= 4096 else f"{number}"
                held[what, number] = f"{what} {shown} ({name} at {_site(begin)})"
        elif name in _GIVEN:
            key, what = _GIVEN[name]
            held.pop((what, _key(args, key)), None)
        elif name == "AdapterControl" and result in _KEEPS:
            registers = _key(args, "registers")
            kind = "channel" if result == _KEEPS[0] else "map registers"
            held["registers", registers] = f"{kind} {registers} (kept by AdapterControl at {_site(begin)})"
        elif name in ("FreeAdapterChannel", "FreeMapRegisters", "FreeAdapterObject"):
            held.pop(("registers", _key(args, "registers")), None)
    return list(held.values())


def call_text(record: Mapping[str, Any]) -> str:
    """A call as one line: its name and the arguments that are short."""
    short = [f"{key}={value}" for key, value in record["args"].items() if isinstance(value, bool | int | str)]
    return f"{record['name']}({', '.join(short)}) at {_site(record)}, cycle {record['cycle']}"


def last_open_call(calls: Iterable[Mapping[str, Any]]) -> tuple[str, list[Any] | None]:
    """The newest call of the main coroutine, marked if it has not returned, and its line; ``("", None)`` without any."""
    last: Mapping[str, Any] | None = None
    ended: set[int] = set()
    for record in calls:
        if record["phase"] == "end":
            ended.add(record["call"])
        elif not record.get("thread") and record.get("parent") is None and record["site"][1] and record["name"] != "Unhandled":
            last = record
    if last is None:
        return "", None
    return call_text(last) + ("" if last["call"] in ended else ", which has not returned"), list(last["site"])

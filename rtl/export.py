# SPDX-License-Identifier: BSD-2-Clause
"""Verilog export: every block with the flat port names that tools and verification IP know.

The exported module is a wrapper of plain ports around the block, whose instance is always called ``dut``:

* ``clk`` and ``rst`` (synchronous, active high) are always there;
* an AXI4, AXI4-Lite or AXI-Stream member ``s_axi`` becomes ``s_axi_awaddr``, ``s_axi_wlast``, ``m_axis_tdata`` ...;
* a probe member ``probe_mem`` becomes ``probe_mem_valid`` and the whole record ``probe_mem_record``;
* any other member has the parts of its name joined by one underscore, a struct is split into its fields, and the word
  ``payload`` of a stream of structs is left out: ``snoop_req_valid``, ``snoop_req_addr``;
* a field without bits has no port.

Memories keep their name: ``m.submodules.ram = Memory(...)`` in the submodule ``backend`` of the block exported as ``mem``
is the array ``mem.dut.backend.ram``; :func:`memories` lists the paths. A memory whose initial content is all zero, and
which has at least :data:`LOOP_DEPTH` rows, is cleared by a loop instead of one statement per row, so a large RAM costs
nothing here; above :data:`SIMULATION_ONLY_DEPTH` rows the loop is hidden from synthesis.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil
from amaranth.back import verilog as _backend
from amaranth.hdl import ClockDomain, Const, Fragment, Module, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import data, wiring

from .axi.bus import AXI4LiteSignature, AXI4Signature, AXIStreamSignature
from .probe import ProbeSignature

__all__ = ["LOOP_DEPTH", "SIMULATION_ONLY_DEPTH", "ExportedMemory", "FlatPort", "flat_ports", "memories", "verilog"]

#: Rows from which an all-zero memory is cleared by a loop.
LOOP_DEPTH = 64
#: Rows above which that loop stands in ``ifndef SYNTHESIS``: a synthesis tool would unroll it row by row.
SIMULATION_ONLY_DEPTH = 4096

# The pinned yosys of the wheel writes the same Verilog everywhere; one on PATH may be old, or new and different.
os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")

_AXI = (AXI4Signature, AXI4LiteSignature, AXIStreamSignature)
_RESERVED = ("clk", "rst")


@dataclass(frozen=True)
class FlatPort:
    """One port of the exported module: ``direction`` is ``"input"`` or ``"output"``; ``value`` the block's own bits."""

    name: str
    direction: str
    width: int
    value: Value


@dataclass(frozen=True)
class ExportedMemory:
    """One memory array of an exported module: hierarchical ``path`` (top module first), bits per row, rows."""

    path: str
    width: int
    depth: int


def _elements(value: Any, dimensions: tuple[int, ...], suffix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The elements of a member with array dimensions, each with its indices as name parts."""
    if not dimensions:
        yield suffix, value
    else:
        for index in range(dimensions[0]):
            yield from _elements(value[index], dimensions[1:], (*suffix, str(index)))


def _fields(shape: Any, bits: Value, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:
    """The bits of each field of a (nested) struct; anything else is one field."""
    if isinstance(shape, data.StructLayout):
        for key, field in shape:
            yield from _fields(field.shape, bits[field.offset : field.offset + field.width], (*parts, key))
    else:
        yield parts, bits


def _walk(signature: Any, interface: Any, prefix: tuple[str, ...], style: str) -> Iterator[tuple[str, Any, Value]]:
    for name, member in signature.members.items():
        for indices, value in _elements(getattr(interface, name), member.dimensions):
            parts = (*prefix, name, *indices)
            if member.is_signature:
                inner = member.signature
                plain = inner.flip() if isinstance(inner, wiring.FlippedSignature) else inner
                if isinstance(plain, _AXI):
                    inner_style = "axi"
                elif isinstance(plain, ProbeSignature):
                    inner_style = "probe"
                else:
                    inner_style = style
                yield from _walk(inner, value, parts, inner_style)
                continue
            bits = Value.cast(value)
            if style == "probe":
                yield "_".join(parts), member.flow, bits
                continue
            split = isinstance(member.shape, data.StructLayout)
            for path, field in _fields(member.shape, bits, parts[:-1] if split and name == "payload" else parts):
                if style == "axi":
                    # The last two parts are channel and field (s_axi, aw, addr); AXI writes them together.
                    path = (*path[:-2], path[-2] + path[-1])
                yield "_".join(path), member.flow, field


def flat_ports(component: wiring.Component, *, ports: Mapping[str, str] | None = None) -> list[FlatPort]:
    """The ports that :func:`verilog` gives the block, clock and reset excepted, in the order of its signature.

    Parameters
    ----------
    component : the block.
    ports : new names for some of the flat ports (customary name to wanted name).

    Raises
    ------
    ValueError
        If two ports would get the same name, or ``ports`` names a port that is not there.
    """
    renames = dict(ports or {})
    unused = set(renames)
    result: dict[str, FlatPort] = {}
    for customary, flow, bits in _walk(component.signature, component, (), "plain"):
        if len(bits) == 0 or (flow == wiring.In and isinstance(bits, Const)):
            continue  # a field without bits; the `ready` of a stream that is always ready
        unused.discard(customary)
        name = renames.get(customary, customary)
        if name in result or name in _RESERVED:
            raise ValueError(f"Port name must be unique in the exported module, not {name!r} twice")
        result[name] = FlatPort(name, "input" if flow == wiring.In else "output", len(bits), bits)
    if unused:
        raise ValueError(f"Renamed port must be a port of {type(component).__name__}, not {sorted(unused)[0]!r}")
    return list(result.values())


def _empty_zero_memories(fragment: Fragment) -> None:
    """Takes the initial rows from each large all-zero memory: Amaranth would spell out every bit of them."""
    if isinstance(fragment, MemoryInstance):
        init = fragment._data._init
        if fragment._data.depth >= LOOP_DEPTH and not any(init._raw):
            init._raw = []
    for subfragment, _name, _src_loc in fragment.subfragments:
        _empty_zero_memories(subfragment)


# A field without bits leaves a debug wire of a width that no Verilog tool understands.
_NO_BITS = re.compile(r"^(?:  \(\*.*\*\)\n)*  wire \[-1:0\] .*;\n", re.MULTILINE)
# Constant bits of a signal whose other bits are assigned in processes: no simulator ever runs such a block.
_NEVER_RUN = re.compile(r"^  always @\*\n(    [^\n;=]+ = \d+'h[0-9a-f]+;)$", re.MULTILINE)
_MEMINIT = re.compile(r"^\s*cell \$meminit_v2 .*?^\s*end\n", re.MULTILINE | re.DOTALL)
_MEMORY = re.compile(r"^  reg (?:\[(\d+):0\] )?(\S+) \[(\d+):0\];\n", re.MULTILINE)
_MODULE = re.compile(r"^module (\S+?) ?\(.*?^endmodule$", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\S+) +(\S+) \($", re.MULTILINE)


def _clear_loop(match: re.Match, text: str) -> str:
    """The declaration of a memory, followed by a loop that clears it if it has no initial content of its own."""
    name, last = match[2], int(match[3])
    identifier = f"{name} " if name.startswith("\\") else name
    if text[match.end() :].startswith(f"  initial begin\n    {identifier}["):
        return match[0]
    block = "clear_" + re.sub(r"\W", "_", name)
    loop = (
        f"  initial begin : {block}\n"
        "    integer clear_row;\n"
        f"    for (clear_row = 0; clear_row <= {last}; clear_row = clear_row + 1)\n"
        f"      {identifier}[clear_row] = 0;\n"
        "  end\n"
    )
    if last >= SIMULATION_ONLY_DEPTH:
        loop = f"`ifndef SYNTHESIS\n{loop}`endif\n"
    return match[0] + loop


def verilog(component: wiring.Component, name: str, *, ports: Mapping[str, str] | None = None) -> str:
    """Verilog of a block as the module ``name``, with the flat ports of :func:`flat_ports`, ``clk`` and ``rst``.

    The block itself is the instance ``dut``. Deterministic: the same block gives the same text.

    Parameters
    ----------
    component : a block in the ``sync`` domain that has not been elaborated before.
    name : module name, a Verilog identifier; the modules below it are called ``\\name.dut...``.
    ports : new names for some of the flat ports (customary name to wanted name).

    Raises
    ------
    ValueError
        If ``name`` is not an identifier, two ports would get the same name, or ``ports`` names a port that is not there.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"Module name must be a Verilog identifier, not {name!r}")
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = component
    # The wrapper's signals are nameless: their names are those of the ports alone.
    exported: dict[str, tuple[Value, PortDirection]] = {
        "clk": (domain.clk, PortDirection.Input),
        "rst": (domain.rst, PortDirection.Input),
    }
    for port in flat_ports(component, ports=ports):
        wire = Signal(port.width, name="")
        if port.direction == "input":
            m.d.comb += port.value.eq(wire)
            exported[port.name] = (wire, PortDirection.Input)
        else:
            m.d.comb += wire.eq(port.value)
            exported[port.name] = (wire, PortDirection.Output)

    fragment = Fragment.get(m, None)
    _empty_zero_memories(fragment)
    text, _names = rtlil.convert_fragment(fragment, exported, name, emit_src=False)
    text = _MEMINIT.sub(lambda match: "" if re.search(r"connect \\DATA \{\s*\}", match[0]) else match[0], text)
    result = _backend._convert_rtlil_text(text, strip_internal_attrs=True)
    result = _NEVER_RUN.sub(r"  initial\n\1", _NO_BITS.sub("", result))
    return _MEMORY.sub(lambda match: _clear_loop(match, match.string), result)


def memories(text: str, name: str) -> list[ExportedMemory]:
    """The memory arrays in Verilog made by :func:`verilog`, by hierarchical path (for ``$readmemh``, ``$writememh``).

    Row ``n`` of the array is row ``n`` of the Amaranth memory, bit 0 first; escaped names are given without escape.

    Parameters
    ----------
    text : the exported Verilog.
    name : its top module.

    Raises
    ------
    ValueError
        If there is no module of that name.
    """
    bodies = {match[1].removeprefix("\\"): match[0] for match in _MODULE.finditer(text)}
    if name not in bodies:
        raise ValueError(f"Module must be one of the exported text's, not {name!r}")
    found: list[ExportedMemory] = []

    def visit(module: str, path: str) -> None:
        for width, array, last in _MEMORY.findall(bodies[module]):
            found.append(ExportedMemory(f"{path}.{array.removeprefix(chr(92))}", int(width or 0) + 1, int(last) + 1))
        for kind, instance in _INSTANCE.findall(bodies[module]):
            if kind.removeprefix("\\") in bodies:
                visit(kind.removeprefix("\\"), f"{path}.{instance.removeprefix(chr(92))}")

    visit(name, name)
    return sorted(found, key=lambda memory: memory.path)

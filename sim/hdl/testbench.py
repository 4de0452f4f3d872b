# SPDX-License-Identifier: BSD-2-Clause
"""Generates the testbench: the exported SoC, one sink for its probe records, and a backdoor to its arrays.

The sink runs at simulator speed, so that no probe record passes through Python: it writes ``events.bin`` (format in
:mod:`sim.record.event`) at each rising edge and Python reads it in bulk. Commands on ``tb_cmd`` run at the falling edge, when
the arrays hold the state after all records written so far:

===== =============================================================================================
bit   effect
===== =============================================================================================
0     load ``memory.bin`` and ``device.bin`` into RAM and device buffer, and zero the caches' data and tags
1     write all arrays to ``dump.bin``
2     flush ``events.bin`` and ``maintenance.bin`` to disk
===== =============================================================================================

When a maintenance command ends the sink appends to ``maintenance.bin``: four header words (magic, cycle, first byte,
length, both rounded to bus words), the memory of the command's range, and the D-cache's arrays.
"""

from dataclasses import dataclass

from rtl.config import SocConfig
from rtl.export import flat_ports, verilog
from rtl.probe import CHANNELS, Kind
from rtl.soc import Soc

from .arrays import Array, dcache_arrays, fifo_arrays, icache_arrays, memory_arrays

__all__ = ["Bench", "MAINTENANCE_MAGIC", "testbench_verilog"]

_SOC = "flushpoint_soc"
MAINTENANCE_MAGIC = 0x464C5348


@dataclass(frozen=True)
class Bench:
    """``verilog``: the whole text. ``ports``: names VPI must see. ``layout``: what ``dump.bin`` holds, in order."""

    verilog: str
    ports: list[str]
    layout: dict[str, object]


def _soc_ports(soc: Soc) -> list[tuple[str, str, str]]:
    """``(direction, range, name)`` of each port of the exported SoC."""
    plain = [("input", "", "clk"), ("input", "", "rst")]
    return plain + [(port.direction, f"[{port.width - 1}:0]" if port.width > 1 else "", port.name) for port in flat_ports(soc)]


def _dump(arrays: list[Array], file: str, indent: str) -> str:
    lines = []
    for array in arrays:
        words = (array.width + 31) // 32
        pad = words * 32 - array.width

        def word(path: str, pad: int = pad) -> str:
            return f"{{{pad}'b0, {path}}}" if pad else path

        if array.depth:
            lines.append(f'for (i = 0; i < {array.depth}; i = i + 1) $fwrite({file}, "%u", {word(f"{array.path}[i]")});')
        else:
            lines.append(f'$fwrite({file}, "%u", {word(array.path)});')
    return "\n".join(indent + line for line in lines)


def _decoded_probe(config: SocConfig) -> list[str]:
    """Wires for people who look at waves: each probe channel's record in fields, zero while there is none.

    ``<channel>_last`` is the kind of the latest record, this cycle's included: it stays, so that its name can be read
    where a cycle is a few pixels wide.
    """
    width = max(64, config.data_width)
    lines = []
    for channel in CHANNELS:
        valid, record = f"probe_{channel}_valid", f"probe_{channel}_record"
        lines.append(f"  wire [7:0] {channel}_event = {valid} ? {record}[7:0] : 8'd0;")
        lines.append(f"  reg [7:0] {channel}_held = 8'd0;")
        lines.append(f"  always @(posedge clk) if ({valid}) {channel}_held <= {record}[7:0];")
        lines.append(f"  wire [7:0] {channel}_last = {valid} ? {record}[7:0] : {channel}_held;")
        for field, low, bits in (("flags", 8, 8), ("tag", 16, 16), ("addr", 32, 32), ("aux", 64, 32), ("data", 96, width)):
            lines.append(f"  wire [{bits - 1}:0] {channel}_{field} = {valid} ? {record}[{low + bits - 1}:{low}] : {bits}'d0;")
    return lines


def _held_inputs(inputs: list[tuple[str, str]]) -> list[str]:
    """Registers between the testbench's inputs ``(range, name)`` and the SoC, that change at the falling edge.

    Verilator runs everything behind a top-level input in each of its steps, of which cocotb makes four per cycle, whether an
    input has changed or not: that took half of the time. Python writes after a rising edge, so no cycle is lost.
    """
    names = ", ".join(name for _, name in inputs)
    held = ", ".join(f"{name}_held" for _, name in inputs)
    lines = [f"  reg {extent + ' ' if extent else ''}{name}_held = 0;" for extent, name in inputs]
    lines.append("  reg inputs_changed = 0;")
    lines.append(f"  always @(negedge clk) if ({{{names}}} !== {{{held}}}) inputs_changed <= ~inputs_changed;")
    lines.append(f"  always @(inputs_changed) {{{held}}} = {{{names}}};")
    return lines


def testbench_verilog(config: SocConfig, top: str, *, waves: bool = False) -> Bench:
    """The testbench called ``top`` for ``config``; with ``waves`` the probe records are also there as named wires."""
    soc = Soc(config=config)
    ports = _soc_ports(soc)
    text = verilog(soc, _SOC)
    outer = [port for port in ports if not port[2].startswith("probe_")]
    probes = [port for port in ports if port[2].startswith("probe_")]
    memory, device = memory_arrays(config)
    dcache, icache, fifo = dcache_arrays(config), icache_arrays(config), fifo_arrays(config)
    everything = [memory, device, *dcache, *icache, *fifo]
    record_bits = 96 + max(64, config.data_width)
    word_bytes = config.data_bytes
    shift = word_bytes.bit_length() - 1

    out = [f"module {top}(tb_cmd, tb_cycle, {', '.join(name for _, _, name in outer)});"]
    out += ["  input [2:0] tb_cmd;", "  output reg [31:0] tb_cycle;"]
    out += [f"  {direction} {extent + ' ' if extent else ''}{name};" for direction, extent, name in outer]
    out += [f"  wire {extent + ' ' if extent else ''}{name};" for _, extent, name in probes]
    out += _held_inputs([(extent, name) for direction, extent, name in outer if direction == "input" and name != "clk"])
    held = {name for direction, _, name in ports if direction == "input" and name != "clk"}
    connections = ", ".join(f".{name}({name}{'_held' if name in held else ''})" for _, _, name in ports)
    out.append(f"  {_SOC} soc({connections});")
    if waves:
        out += _decoded_probe(config)
    out.append("  integer events, maintenance, file, i, got;")
    out.append("  reg [31:0] maint_start, maint_length, maint_first, maint_words;")
    out.append("  reg maint_all, maint_ended;")
    out.append("  initial begin")
    out.append("    tb_cycle = 0; maint_ended = 0; maint_start = 0; maint_length = 0; maint_all = 0;")
    out.append('    events = $fopen("events.bin", "wb"); maintenance = $fopen("maintenance.bin", "wb");')
    out.append("  end")
    out.append("  always @(posedge clk) begin")
    out.append("    tb_cycle <= rst ? 32'd0 : tb_cycle + 32'd1;")
    out.append("    if (!rst) begin")
    for channel in CHANNELS:
        record = f"probe_{channel}_record"
        out.append(
            f"      if (probe_{channel}_valid) "
            f'$fwrite(events, "%u", {{{record}[{record_bits - 1}:32], tb_cycle, {record}[31:0]}});'
        )
    kind = "probe_maint_record[7:0]"
    out.append(f"      if (probe_maint_valid && {kind} == 8'd{int(Kind.MAINT_BEGIN)}) begin")
    out.append("        maint_all <= probe_maint_record[64 + 3];")
    out.append("        maint_start <= probe_maint_record[63:32];")
    line = config.dcache.line_bytes
    out.append(f"        maint_length <= probe_maint_record[64 + 3:64 + 2] == 2'd0 ? 32'd{line} : probe_maint_record[127:96];")
    out.append("      end")
    out.append("    end")
    out.append(f"    maint_ended <= !rst && probe_maint_valid && {kind} == 8'd{int(Kind.MAINT_END)};")
    out.append("  end")
    out.append("  always @(negedge clk) begin")
    out.append("    if (tb_cmd[0]) begin")
    for name, array in (("memory", memory), ("device", device)):
        out.append(f'      file = $fopen("{name}.bin", "rb"); got = $fread({array.path}, file); $fclose(file);')
    for array in [*dcache, *icache]:
        if array.depth and array.backdoor:
            out.append(f"      for (i = 0; i < {array.depth}; i = i + 1) {array.path}[i] = 0;")
    out.append("    end")
    out.append("    if (tb_cmd[1]) begin")
    out.append('      file = $fopen("dump.bin", "wb");')
    out.append(_dump(everything, "file", "      "))
    out.append("      $fclose(file);")
    out.append("    end")
    out.append("    if (maint_ended) begin")
    base, size = config.memory.base, config.memory.size
    out.append(f"      maint_first = maint_all ? 32'd0 : ((maint_start & ~32'd{line - 1}) - 32'h{base:x}) >> {shift};")
    out.append(
        f"      maint_words = maint_all ? 32'd{size >> shift} : "
        f"(((maint_start & 32'd{line - 1}) + maint_length + 32'd{line - 1}) & ~32'd{line - 1}) >> {shift};"
    )
    # A range that leaves the memory window is clipped: the rest is nobody's memory.
    out.append(f"      if (!maint_all && maint_start < 32'h{base:x}) maint_words = 0;")
    out.append(f"      if (maint_first >= 32'd{size >> shift}) maint_words = 0;")
    out.append(
        f"      else if (maint_words > 32'd{size >> shift} - maint_first) maint_words = 32'd{size >> shift} - maint_first;"
    )
    out.append(
        f'      $fwrite(maintenance, "%u", {{maint_words << {shift}, (maint_first << {shift}) + 32\'h{base:x}, tb_cycle, '
        f"32'h{MAINTENANCE_MAGIC:x}}});"
    )
    pad = f"{{{32 - config.data_width % 32}'b0, {memory.path}[i]}}" if config.data_width % 32 else f"{memory.path}[i]"
    out.append("      for (i = maint_first; i < maint_first + maint_words; i = i + 1)")
    out.append(f'        $fwrite(maintenance, "%u", {pad});')
    out.append(_dump(dcache, "maintenance", "      "))
    out.append("    end")
    out.append("    if (tb_cmd[2]) begin $fflush(events); $fflush(maintenance); end")
    out.append("  end")
    out.append("endmodule")

    layout = {
        "sections": [
            {"name": array.name, "depth": array.depth or 1, "width": array.width, "words": (array.width + 31) // 32}
            for array in everything
        ],
        "maintenance": [array.name for array in dcache],
    }
    names = ["tb_cmd", "tb_cycle", *(name for _, _, name in outer)]
    return Bench(text + "\n" + "\n".join(out) + "\n", names, layout)

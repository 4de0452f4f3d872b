# SPDX-License-Identifier: BSD-2-Clause
"""Wrappers around a block for measuring it on an FPGA.

Both read like this: the block is exported as usual, and the wrapper is a module of its own around it. The probe ports
(they only observe, and no board connects them) stay open, so that synthesis drops what feeds them.
"""

from amaranth.lib import wiring

from rtl.export import FlatPort, flat_ports, verilog

__all__ = ["registered", "serial"]


def _split(component: wiring.Component, suffix: str) -> tuple[str, list[FlatPort], list[FlatPort]]:
    ports = [port for port in flat_ports(component) if not port.name.startswith("probe_")]
    text = verilog(component, f"{suffix}_block")
    return text, [port for port in ports if port.direction == "input"], [port for port in ports if port.direction == "output"]


def _extent(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def registered(component: wiring.Component, name: str) -> str:
    """Verilog of ``component`` inside the module ``name``, with one register at every port, ``clk`` and ``rst`` excepted.

    So each path that is timed starts and ends in a flip-flop, and the fastest clock is the block's own.
    """
    text, inputs, outputs = _split(component, name)
    ports = ["clk", "rst", *(port.name for port in (*inputs, *outputs))]
    lines = [f"module {name}({', '.join(ports)});", "  input clk, rst;"]
    for port in inputs:
        extent = _extent(port.width)
        lines += [f"  input {extent}{port.name};", f"  reg {extent}{port.name}_q;"]
        lines.append(f"  always @(posedge clk) {port.name}_q <= {port.name};")
    for port in outputs:
        extent = _extent(port.width)
        lines += [f"  output reg {extent}{port.name};", f"  wire {extent}{port.name}_d;"]
        lines.append(f"  always @(posedge clk) {port.name} <= {port.name}_d;")
    connections = [".clk(clk)", ".rst(rst)"]
    connections += [f".{port.name}({port.name}_q)" for port in inputs] + [f".{port.name}({port.name}_d)" for port in outputs]
    lines += [f"  {name}_block block({', '.join(connections)});", "endmodule"]
    return text + "\n" + "\n".join(lines) + "\n"


def serial(component: wiring.Component, name: str) -> str:
    """Verilog of ``component`` inside the module ``name`` with five pins, for chips that have fewer pins than the block.

    Inputs come from a shift register fed by ``si``; outputs are caught in another one while ``load`` is high and leave on ``so``.
    """
    text, inputs, outputs = _split(component, name)
    ins, outs = sum(port.width for port in inputs), sum(port.width for port in outputs)
    connections, low = [".clk(clk)", ".rst(rst)"], 0
    for port in inputs:
        connections.append(f".{port.name}(i[{low + port.width - 1}:{low}])")
        low += port.width
    low = 0
    for port in outputs:
        connections.append(f".{port.name}(o[{low + port.width - 1}:{low}])")
        low += port.width
    return f"""{text}
module {name}(clk, rst, load, si, so);
  input clk, rst, load, si;
  output so;
  reg [{max(ins, 1)}:0] i;
  reg [{max(outs, 1)}:0] caught;
  wire [{max(outs, 1)}:0] o;
  always @(posedge clk) begin
    i <= {{i[{max(ins, 1) - 1}:0], si}};
    caught <= load ? o : {{caught[{max(outs, 1) - 1}:0], 1'b0}};
  end
  assign so = caught[{max(outs, 1)}];
  {name}_block block({", ".join(connections)});
endmodule
"""

// SPDX-License-Identifier: BSD-2-Clause
// Writes the maintenance unit's registers as the register bank would, one command after the other.
// The program's format: sim/bench/program.py.

module maint_agent #(
    parameter LENGTH = 1024
) (
    input clk,
    input rst,
    input [31:0] others,
    output reg [31:0] reached,
    output reg [31:0] start,
    output reg [31:0] length,
    output reg written,
    output [1:0] op,
    output [1:0] scope,
    output [1:0] target,
    input done
);
  localparam [7:0] END = 0, BARRIER = 4, DELAY = 5, MAINTAIN = 8;

  reg [159:0] steps[0:LENGTH-1];
  integer pc, count;
  wire [159:0] step = steps[pc];
  wire [31:0] address = step[127:96], value = step[95:64], mask = step[63:32], argument = step[31:0];

  reg [8*256-1:0] folder;
  initial begin
    if (!$value$plusargs("programs=%s", folder)) folder = ".";
    $readmemh({folder, "/maint.hex"}, steps);
  end

  assign op = value[1:0];
  assign scope = value[3:2];
  assign target = value[5:4];

  always @(posedge clk) begin
    if (rst) begin
      pc <= 0;
      reached <= 0;
      count <= 0;
      written <= 0;
      start <= 0;
      length <= 0;
    end else begin
      written <= 0;
      if (written) $fwrite(bench.log, "%0d maint COMMAND %0d\n", bench.cycle, pc);
      if (done) $fwrite(bench.log, "%0d maint DONE %0d\n", bench.cycle, pc);
      case (step[159:152])
        END: reached <= 32'hFFFF_FFFF;
        BARRIER: begin
          reached <= argument;
          if (others >= argument) pc <= pc + 1;
        end
        DELAY: begin
          count <= count + 1;
          if (count + 1 >= argument) begin
            count <= 0;
            pc <= pc + 1;
          end
        end
        MAINTAIN: begin
          start <= address;
          length <= mask;
          count <= count + 1;
          written <= count == 3;  // the registers are written well before the command
          if (done) begin
            count <= 0;
            pc <= pc + 1;
          end
        end
        default: begin
          $display("unknown step %h at %0d", step, pc);
          $finish;
        end
      endcase
    end
  end
endmodule

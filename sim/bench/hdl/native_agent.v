// SPDX-License-Identifier: BSD-2-Clause
// A requester at the D-cache's native port that carries out a program: one request per cycle, responses always taken.
// The program's format: sim/bench/program.py.

module native_agent #(
    parameter DATA = 64,
    parameter META = 5,
    parameter LENGTH = 16384,
    parameter NUMBER = 0
) (
    input clk,
    input rst,
    input [31:0] others,
    output reg [31:0] reached,
    output req_valid,
    input req_ready,
    output [31:0] req_addr,
    output req_we,
    output [DATA-1:0] req_data,
    output [DATA/8-1:0] req_strb,
    output [2:0] req_size,
    output req_cacheable,
    output [15:0] req_tag,
    output [META-1:0] req_meta,
    input rsp_valid,
    output rsp_ready,
    input rsp_we,
    input [DATA-1:0] rsp_data,
    input [1:0] rsp_resp
);
  `include "bench_pattern.vh"
  assign rsp_ready = 1'b1;
  localparam BYTES = DATA / 8;
  localparam [7:0] END = 0, READ = 1, WRITE = 2, WAIT = 3, BARRIER = 4, DELAY = 5;

  reg [159:0] steps[0:LENGTH-1];
  integer pc;
  wire [159:0] step = steps[pc];
  wire [7:0] op = step[159:152];
  wire [31:0] address = step[127:96], value = step[95:64], argument = step[31:0];

  reg [8*256-1:0] folder;
  initial begin
    if (!$value$plusargs("programs=%s", folder)) folder = ".";
    $readmemh({folder, "/cpu", "0" + NUMBER[7:0], ".hex"}, steps);
  end

  integer flying, count;
  assign req_valid = op == READ || op == WRITE;
  assign req_addr = address;
  assign req_we = op == WRITE;
  assign req_size = step[144:142];
  assign req_cacheable = step[141];
  assign req_tag = 1;
  assign req_meta = 1;  // the last beat of its burst
  reg [DATA-1:0] data;
  reg [BYTES-1:0] strb;
  reg [31:0] unit;
  integer lane;
  always @(*) begin
    unit = 32'd1 << step[144:142];
    for (lane = 0; lane < DATA / 32; lane = lane + 1)
      data[lane*32+:32] = pattern((address & ~(BYTES - 1)) + lane * 4, value);
    for (lane = 0; lane < BYTES; lane = lane + 1)
      strb[lane] = lane >= (address & (BYTES - 1)) && lane <= ((address | (unit - 1)) & (BYTES - 1));
  end
  assign req_data = data;
  assign req_strb = strb;

  wire go = req_valid & req_ready;
  always @(posedge clk) begin
    if (rst) begin
      pc <= 0;
      reached <= 0;
      flying <= 0;
      count <= 0;
    end else begin
      flying <= flying + (go ? 1 : 0) - (rsp_valid ? 1 : 0);
      if (go) $fwrite(bench.log, "%0d c%0d %s %0d %h 0\n", bench.cycle, NUMBER, req_we ? "AW" : "AR", pc, address);
      if (rsp_valid && !rsp_we) $fwrite(bench.log, "%0d c%0d R 0 %h 1 %0d\n", bench.cycle, NUMBER, rsp_data, rsp_resp);
      if (rsp_valid && rsp_we) $fwrite(bench.log, "%0d c%0d B 0 %0d\n", bench.cycle, NUMBER, rsp_resp);
      case (op)
        END: if (flying == 0) reached <= 32'hFFFF_FFFF;
        READ, WRITE: if (go) pc <= pc + 1;
        WAIT: if (flying == 0) pc <= pc + 1;
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
        default: begin
          $display("unknown step %h at %0d", step, pc);
          $finish;
        end
      endcase
    end
  end
endmodule

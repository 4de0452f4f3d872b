// SPDX-License-Identifier: BSD-2-Clause
// A requester at the D-cache's native port for traces: one request per cycle, responses always taken. The tag of a request
// counts the requests (modulo 2**16), so that the cache's records say which access they are about.
// The program's format: sim/bench/program.py; only READ, WRITE and WAIT.

module trace_agent #(
    parameter DATA = 64,
    parameter LENGTH = 262144
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
    output [15:0] req_tag,
    input rsp_valid
);
  localparam BYTES = DATA / 8;
  localparam [7:0] END = 0, READ = 1, WRITE = 2, WAIT = 3;

  reg [159:0] steps[0:LENGTH-1];
  integer pc, flying;
  reg [15:0] count;
  wire [159:0] step = steps[pc];
  wire [7:0] op = step[159:152];
  wire [31:0] unit = 32'd1 << step[144:142];

  reg [8*256-1:0] folder;
  initial begin
    if (!$value$plusargs("programs=%s", folder)) folder = ".";
    $readmemh({folder, "/d0.hex"}, steps);
  end

  integer lane;
  reg [BYTES-1:0] strb;
  always @(*)
    for (lane = 0; lane < BYTES; lane = lane + 1)
      strb[lane] = lane >= (req_addr & (BYTES - 1)) && lane <= ((req_addr | (unit - 1)) & (BYTES - 1));

  assign req_valid = op == READ || op == WRITE;
  assign req_addr = step[127:96];
  assign req_we = op == WRITE;
  assign req_data = {DATA / 16{count}};
  assign req_strb = strb;
  assign req_size = step[144:142];
  assign req_tag = count;

  wire go = req_valid & req_ready;
  always @(posedge clk) begin
    if (rst) begin
      pc <= 0;
      reached <= 0;
      flying <= 0;
      count <= 0;
    end else begin
      flying <= flying + (go ? 1 : 0) - (rsp_valid ? 1 : 0);
      if (go) count <= count + 1;
      if (go || (op == WAIT && flying == 0)) pc <= pc + 1;
      if (op == END && flying == 0) reached <= 32'hFFFF_FFFF;
    end
  end
endmodule

// SPDX-License-Identifier: BSD-2-Clause
// An AXI4 manager that carries out a program at full rate: one address per cycle, one write beat per cycle, R and B always taken
// (with +back=N they are refused in N of 100 cycles). The program's format: sim/bench/program.py.

module axi_agent #(
    parameter DATA = 64,
    parameter ID = 4,
    parameter LENGTH = 65536,
    parameter [31:0] SEED = 1,
    parameter NUMBER = 0
) (
    input clk,
    input rst,
    input [31:0] others,  // the lowest barrier that all agents have reached
    output reg [31:0] reached,
    input [31:0] irq,
    output awvalid,
    input awready,
    output [ID-1:0] awid,
    output [31:0] awaddr,
    output [7:0] awlen,
    output [2:0] awsize,
    output [1:0] awburst,
    output [3:0] awcache,
    output wvalid,
    input wready,
    output [DATA-1:0] wdata,
    output [DATA/8-1:0] wstrb,
    output wlast,
    input bvalid,
    output bready,
    input [ID-1:0] bid,
    input [1:0] bresp,
    output arvalid,
    input arready,
    output [ID-1:0] arid,
    output [31:0] araddr,
    output [7:0] arlen,
    output [2:0] arsize,
    output [1:0] arburst,
    output [3:0] arcache,
    input rvalid,
    output rready,
    input [ID-1:0] rid,
    input [DATA-1:0] rdata,
    input [1:0] rresp,
    input rlast
);
  `include "bench_pattern.vh"
  localparam BYTES = DATA / 8;
  localparam PENDING = 64;
  localparam [7:0] END = 0, READ = 1, WRITE = 2, WAIT = 3, BARRIER = 4, DELAY = 5, POLL = 6, STORE = 7, IRQ = 9;

  reg [159:0] steps[0:LENGTH-1];
  integer pc;
  wire [159:0] step = steps[pc];
  wire [7:0] op = step[159:152];
  wire [31:0] address = step[127:96], value = step[95:64], mask = step[63:32], argument = step[31:0];

  reg [8*256-1:0] folder;
  integer back;
  initial begin
    if (!$value$plusargs("programs=%s", folder)) folder = ".";
    $readmemh({folder, "/cpu", "0" + NUMBER[7:0], ".hex"}, steps);
    if (!$value$plusargs("back=%d", back)) back = 0;
  end

  reg [31:0] random;
  reg hold_r, hold_b;
  assign rready = ~hold_r;
  assign bready = ~hold_b;

  integer reads, writes, count;  // in flight; of DELAY
  reg asked, seen;  // of POLL: a read is under way; the last one had the wanted value
  reg idle;
  always @(*) idle = reads == 0 && writes == 0;

  // --- addresses
  assign arvalid = op == READ || (op == POLL && !asked && !seen);
  assign araddr = address;
  assign arid = step[148+:ID];
  assign arburst = step[146:145];
  assign arsize = step[144:142];
  assign arcache = step[141] ? 4'b1111 : 4'b0011;
  assign arlen = step[135:128];
  // The data of a burst leaves from the cycle after its address on, so the queue must have room for it.
  integer w_t, w_h, w_beat;
  assign awvalid = (op == WRITE || op == STORE) && w_t - w_h < PENDING;
  assign awaddr = address;
  assign awid = step[148+:ID];
  assign awburst = step[146:145];
  assign awsize = step[144:142];
  assign awcache = arcache;
  assign awlen = step[135:128];

  // --- write data
  reg [159:0] queue[0:PENDING-1];
  wire [159:0] w = queue[w_h%PENDING];
  wire [31:0] w_addr = w[127:96];
  wire [2:0] w_size = w[144:142];
  wire [7:0] w_len = w[135:128];
  reg [31:0] w_at, w_unit, w_total;
  reg [DATA-1:0] w_data;
  reg [BYTES-1:0] w_strb;
  integer lane;
  always @(*) begin
    w_unit = 32'd1 << w_size;
    w_total = w_unit * ({24'd0, w_len} + 1);
    w_at = w_addr;
    if (w_beat != 0 && w[146:145] == 1) w_at = (w_addr & ~(w_unit - 1)) + w_beat * w_unit;
    if (w_beat != 0 && w[146:145] == 2)
      w_at = (w_addr & ~(w_total - 1)) | (((w_addr & ~(w_unit - 1)) + w_beat * w_unit) & (w_total - 1));
    w_data = 0;
    for (lane = 0; lane < DATA / 32; lane = lane + 1)
      w_data[lane*32+:32] = w[159:152] == STORE ? w[95:64] : pattern((w_at & ~(BYTES - 1)) + lane * 4, w[95:64]);
    w_strb = 0;
    for (lane = 0; lane < BYTES; lane = lane + 1)
      w_strb[lane] = lane >= (w_at & (BYTES - 1)) && lane <= ((w_at | (w_unit - 1)) & (BYTES - 1));
  end
  assign wvalid = w_t != w_h;
  assign wdata = w_data;
  assign wstrb = w_strb;
  assign wlast = w_beat == w_len;

  wire go_ar = arvalid & arready, go_aw = awvalid & awready;
  wire r_end = rvalid & rready & rlast, b_end = bvalid & bready;
  always @(posedge clk) begin
    if (rst) begin
      pc <= 0;
      reached <= 0;
      reads <= 0;
      writes <= 0;
      count <= 0;
      asked <= 0;
      seen <= 0;
      w_t <= 0;
      w_h <= 0;
      w_beat <= 0;
      random = SEED;
      hold_r <= 0;
      hold_b <= 0;
    end else begin
      if (back != 0) begin
        random = random ^ (random << 13);
        random = random ^ (random >> 17);
        random = random ^ (random << 5);
        hold_r <= (random[15:0] % 100) < back;
        hold_b <= (random[31:16] % 100) < back;
      end
      reads <= reads + (go_ar ? 1 : 0) - (r_end ? 1 : 0);
      writes <= writes + (go_aw ? 1 : 0) - (b_end ? 1 : 0);
      if (go_ar) $fwrite(bench.log, "%0d c%0d AR %0d %h %0d\n", bench.cycle, NUMBER, pc, araddr, arlen);
      if (go_aw) begin
        $fwrite(bench.log, "%0d c%0d AW %0d %h %0d\n", bench.cycle, NUMBER, pc, awaddr, awlen);
        queue[w_t%PENDING] <= step;
        w_t <= w_t + 1;
      end
      if (wvalid & wready) begin
        $fwrite(bench.log, "%0d c%0d W %0d\n", bench.cycle, NUMBER, wlast);
        w_beat <= wlast ? 0 : w_beat + 1;
        if (wlast) w_h <= w_h + 1;
      end
      if (rvalid & rready) $fwrite(bench.log, "%0d c%0d R %0d %h %0d %0d\n", bench.cycle, NUMBER, rid, rdata, rlast, rresp);
      if (b_end) $fwrite(bench.log, "%0d c%0d B %0d %0d\n", bench.cycle, NUMBER, bid, bresp);
      case (op)
        END: if (idle) reached <= 32'hFFFF_FFFF;
        READ: if (go_ar) pc <= pc + 1;
        WRITE, STORE: if (go_aw) pc <= pc + 1;
        WAIT: if (idle) pc <= pc + 1;
        IRQ: if ((irq & mask) != 0) pc <= pc + 1;
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
        POLL: begin
          if (go_ar) asked <= 1;
          if (r_end) begin
            asked <= 0;
            seen <= (rdata[(address%BYTES)*8+:32] & mask) == value;
          end
          if (seen) begin
            seen <= 0;
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

// SPDX-License-Identifier: BSD-2-Clause
// The ideal memory: AR and AW accepted every cycle (64 deep), the first R beat LATENCY cycles after the AR handshake, then
// one beat per cycle; W accepted one beat per cycle; B one cycle after the last W beat. Answers in the order of the addresses.
// Reads and writes do not share anything. INCR, WRAP, FIXED, narrow and unaligned bursts.
//
// Bytes never written read as the pattern of bench_pattern.vh with seed 0, so that nothing needs to be loaded.
// LATENCY comes from the plusarg latency= (1 or more). With +stall=N, R and B are withheld and AR, AW and W refused in N of
// 100 cycles, by a generator with a fixed seed.

module ideal_memory #(
    parameter DATA = 64,
    parameter ID = 4,
    parameter SPACE = 20,  // log2 of the bytes kept; higher address bits are ignored
    parameter [31:0] SEED = 1,
    parameter NUMBER = 0
) (
    input clk,
    input rst,
    input awvalid,
    output awready,
    input [ID-1:0] awid,
    input [31:0] awaddr,
    input [7:0] awlen,
    input [2:0] awsize,
    input [1:0] awburst,
    input wvalid,
    output wready,
    input [DATA-1:0] wdata,
    input [DATA/8-1:0] wstrb,
    input wlast,
    output reg bvalid,
    input bready,
    output reg [ID-1:0] bid,
    output [1:0] bresp,
    input arvalid,
    output arready,
    input [ID-1:0] arid,
    input [31:0] araddr,
    input [7:0] arlen,
    input [2:0] arsize,
    input [1:0] arburst,
    output reg rvalid,
    input rready,
    output reg [ID-1:0] rid,
    output reg [DATA-1:0] rdata,
    output [1:0] rresp,
    output reg rlast
);
  localparam BYTES = DATA / 8;
  localparam ROWS = (1 << SPACE) / BYTES;
  localparam DEPTH = 64;

  assign bresp = 0;
  assign rresp = 0;

  reg [DATA-1:0] ram[0:ROWS-1];
  reg [ROWS-1:0] written;  // rows of the ram that hold something

  integer latency, stall;
  initial begin
    if (!$value$plusargs("latency=%d", latency)) latency = 1;
    if (!$value$plusargs("stall=%d", stall)) stall = 0;
    written = 0;
  end

  // --- what is in flight: rings, written at the tail (t) and read at the head (h); the counters never wrap in a run
  reg [ID-1:0] ar_id[0:DEPTH-1];
  reg [31:0] ar_addr[0:DEPTH-1];
  reg [7:0] ar_len[0:DEPTH-1];
  reg [2:0] ar_size[0:DEPTH-1];
  reg [1:0] ar_burst[0:DEPTH-1];
  reg [31:0] ar_time[0:DEPTH-1];
  integer ar_t, ar_h, ar_beat;
  reg [ID-1:0] aw_id[0:DEPTH-1];
  reg [31:0] aw_addr[0:DEPTH-1];
  reg [7:0] aw_len[0:DEPTH-1];
  reg [2:0] aw_size[0:DEPTH-1];
  reg [1:0] aw_burst[0:DEPTH-1];
  integer aw_t, aw_h, aw_beat;
  reg [DATA-1:0] w_data[0:DEPTH-1];
  reg [BYTES-1:0] w_strb[0:DEPTH-1];
  reg w_last[0:DEPTH-1];
  integer w_t, w_h;
  reg [ID-1:0] b_id[0:DEPTH-1];
  integer b_t, b_h;
  reg [31:0] now;
  reg [31:0] random;
  reg [4:0] held;  // withheld in this cycle: AW, W, B, AR, R

  assign awready = (aw_t - aw_h < DEPTH) & ~held[0];
  assign wready = (w_t - w_h < DEPTH) & ~held[1];
  assign arready = (ar_t - ar_h < DEPTH) & ~held[3];

  // Address of a beat (IHI 0022H.c, A3.4.1).
  function [31:0] beat_address(input [31:0] addr, input integer beat, input [7:0] len, input [2:0] size, input [1:0] burst);
    reg [31:0] step, aligned, total;
    begin
      step = 32'd1 << size;
      aligned = addr & ~(step - 1);
      total = step * ({24'd0, len} + 1);
      if (beat == 0 || burst == 0) beat_address = addr;
      else if (burst == 2) beat_address = (addr & ~(total - 1)) | ((aligned + beat * step) & (total - 1));
      else beat_address = aligned + beat * step;
    end
  endfunction

  `include "bench_pattern.vh"

  function [DATA-1:0] row_data(input [31:0] addr);
    integer lane;
    begin
      row_data = ram[addr[SPACE-1:$clog2(BYTES)]];
      if (!written[addr[SPACE-1:$clog2(BYTES)]])
        for (lane = 0; lane < DATA / 32; lane = lane + 1)
          row_data[lane*32+:32] = pattern((addr & ~(BYTES - 1)) + lane * 4, 0);
    end
  endfunction

  reg [31:0] at;
  reg [DATA-1:0] row;
  integer n;
  always @(posedge clk) begin
    if (rst) begin
      now = 0;
      ar_t = 0; ar_h = 0; ar_beat = 0;
      aw_t = 0; aw_h = 0; aw_beat = 0;
      w_t = 0; w_h = 0;
      b_t = 0; b_h = 0;
      random = SEED;
      held = 0;
      bvalid <= 0;
      rvalid <= 0;
      rlast <= 0;
    end else begin
      // --- handshakes of the cycle that ends here
      if (arvalid & arready) begin
        n = ar_t % DEPTH;
        ar_id[n] = arid; ar_addr[n] = araddr; ar_len[n] = arlen; ar_size[n] = arsize; ar_burst[n] = arburst;
        ar_time[n] = now;
        ar_t = ar_t + 1;
        $fwrite(bench.log, "%0d m%0d AR %0d %h %0d\n", bench.cycle, NUMBER, arid, araddr, arlen);
      end
      if (awvalid & awready) begin
        n = aw_t % DEPTH;
        aw_id[n] = awid; aw_addr[n] = awaddr; aw_len[n] = awlen; aw_size[n] = awsize; aw_burst[n] = awburst;
        aw_t = aw_t + 1;
        $fwrite(bench.log, "%0d m%0d AW %0d %h %0d\n", bench.cycle, NUMBER, awid, awaddr, awlen);
      end
      if (wvalid & wready) begin
        n = w_t % DEPTH;
        w_data[n] = wdata; w_strb[n] = wstrb; w_last[n] = wlast;
        w_t = w_t + 1;
        $fwrite(bench.log, "%0d m%0d W %0d %h %h\n", bench.cycle, NUMBER, wlast, wdata, wstrb);
      end
      if (rvalid & rready) begin
        $fwrite(bench.log, "%0d m%0d R %0d %h %0d\n", bench.cycle, NUMBER, rid, rdata, rlast);
        if (rlast) begin
          ar_h = ar_h + 1;
          ar_beat = 0;
        end else ar_beat = ar_beat + 1;
      end
      if (bvalid & bready) begin
        $fwrite(bench.log, "%0d m%0d B %0d\n", bench.cycle, NUMBER, bid);
        b_h = b_h + 1;
      end
      now = now + 1;

      // --- write beats whose address is known
      while (aw_t != aw_h && w_t != w_h) begin
        at = beat_address(aw_addr[aw_h % DEPTH], aw_beat, aw_len[aw_h % DEPTH], aw_size[aw_h % DEPTH], aw_burst[aw_h % DEPTH]);
        row = row_data(at);
        for (n = 0; n < BYTES; n = n + 1)
          if (w_strb[w_h % DEPTH][n]) row[n*8+:8] = w_data[w_h % DEPTH][n*8+:8];
        ram[at[SPACE-1:$clog2(BYTES)]] = row;
        written[at[SPACE-1:$clog2(BYTES)]] = 1;
        if (w_last[w_h % DEPTH] != (aw_beat == aw_len[aw_h % DEPTH])) begin
          $fwrite(bench.log, "%0d m%0d ERROR last of a write burst at %h is at the wrong beat\n", bench.cycle, NUMBER, at);
        end
        if (w_last[w_h % DEPTH]) begin
          b_id[b_t % DEPTH] = aw_id[aw_h % DEPTH];
          b_t = b_t + 1;
          aw_h = aw_h + 1;
          aw_beat = 0;
        end else aw_beat = aw_beat + 1;
        w_h = w_h + 1;
      end

      // --- the coming cycle
      if (stall != 0) begin
        for (n = 0; n < 5; n = n + 1) begin
          random = random ^ (random << 13);
          random = random ^ (random >> 17);
          random = random ^ (random << 5);
          held[n] = (random[15:0] % 100) < stall;
        end
      end
      // A valid that was shown stays until it is taken.
      if (!(rvalid & ~rready)) begin
        if (ar_t != ar_h && now - ar_time[ar_h % DEPTH] >= latency && !held[4]) begin
          n = ar_h % DEPTH;
          rvalid <= 1;
          rid <= ar_id[n];
          rdata <= row_data(beat_address(ar_addr[n], ar_beat, ar_len[n], ar_size[n], ar_burst[n]));
          rlast <= ar_beat == ar_len[n];
        end else rvalid <= 0;
      end
      if (!(bvalid & ~bready)) begin
        bvalid <= b_t != b_h && !held[2];
        bid <= b_id[b_h % DEPTH];
      end
    end
  end
endmodule

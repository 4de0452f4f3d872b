// SPDX-License-Identifier: BSD-2-Clause
// The 32-bit word that stands at a byte address unless something else was written: every word differs. See sim/bench/program.py.
  function [31:0] pattern(input [31:0] address, input [31:0] seed);
    pattern = ({2'b00, address[31:2]} * 32'h9E3779B1) ^ seed;
  endfunction

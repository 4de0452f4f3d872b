# SPDX-License-Identifier: BSD-2-Clause
"""Maps the blocks on FPGAs with open tools and reports area and speed: ``make synth``. See docs/bench.md."""

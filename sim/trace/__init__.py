# SPDX-License-Identifier: BSD-2-Clause
"""Address traces of real programs, a functional cache model, and their comparison with the D-cache's hardware.

See docs/replacement.md. ``python -m sim.trace`` is the command line.
"""

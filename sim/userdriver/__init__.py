# SPDX-License-Identifier: BSD-2-Clause
"""A user's own driver: loaded from a file (:mod:`.source`), run in a simulator session (:mod:`.execute`), judged, reported.

The examples of the rules and of the historical cases (:mod:`sim.scenarios.examples`) are run by the same code.
"""

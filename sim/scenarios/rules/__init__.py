# SPDX-License-Identifier: BSD-2-Clause
"""One module per rule of the flush checker: a driver that breaks it, the corrected one, and a lucky run (:mod:`..examples`)."""

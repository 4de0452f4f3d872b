#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What the set-up needs and cannot install itself: one line for what is missing, and how to get it.
python="${1:-python3}"
missing() { echo "flushpoint: $1 is missing: $2" >&2; exit 2; }
command -v "$python" >/dev/null 2>&1 || missing "Python ($python)" "install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  missing "Python 3.11 or newer" "$python is $("$python" -c 'import platform; print(platform.python_version())'); name another with PYTHON=python3.12"
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing "Python's venv module" "install it (Debian: apt-get install python3-venv)"
command -v g++ >/dev/null 2>&1 || missing "the C++ compiler g++" "install it (Debian: apt-get install g++)"
command -v perl >/dev/null 2>&1 || missing "perl" "install it (Debian: apt-get install perl)"
exit 0

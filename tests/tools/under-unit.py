#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""under-unit.py UNIT PROGRAM ARGS...: runs a program behind the SystemCallFilter= of a unit, as systemd would, except that
a call that the unit does not allow ends the program. Exits with 77 where that cannot be done."""

import ctypes
import os
import subprocess
import sys

SCMP_ACT_KILL_PROCESS = 0x80000000
SCMP_ACT_EPERM = 0x00050001
SCMP_ACT_ALLOW = 0x7FFF0000

# What libraries try at their start, and do without. libnuma: whether the kernel knows a policy.
TRIED = {"set_mempolicy"}


def skip(why):
    print(f"skipped: {why}", file=sys.stderr)
    sys.exit(77)


def members(name, seen=()):
    """The calls of a group, or the one of that name."""
    if not name.startswith("@"):
        return {name}
    said = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], check=True,
                          capture_output=True, text=True).stdout
    calls = set()
    for line in said.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#") and word not in seen:
            calls |= members(word, (*seen, word))
    return calls


def allowed(unit):
    """What the lines of a unit allow, taken in their order."""
    calls = None
    for line in open(unit, encoding="utf-8"):
        key, _, value = line.strip().partition("=")
        if key != "SystemCallFilter":
            continue
        inverted = value.startswith("~")
        if calls is None:
            if inverted:
                sys.exit(f"{unit}: its first filter only takes away")
            # What systemd lets everybody do.
            calls = members("@default")
        for word in value.lstrip("~").split():
            calls = calls - members(word) if inverted else calls | members(word)
    if not calls:
        sys.exit(f"{unit}: no filter")
    return calls


def install(calls):
    try:
        lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        skip("no libseccomp")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    context = lib.seccomp_init(SCMP_ACT_KILL_PROCESS)
    for name in sorted(calls | TRIED):
        action = SCMP_ACT_ALLOW if name in calls else SCMP_ACT_EPERM
        number = lib.seccomp_syscall_resolve_name(name.encode())
        # Those of other machines are negative.
        if number >= 0 and lib.seccomp_rule_add(context, action, number, 0) < 0:
            sys.exit(f"no rule can be made for {name}")
    if lib.seccomp_load(context) < 0:
        skip("no filter can be installed here")


def main():
    try:
        calls = allowed(sys.argv[1])
    except FileNotFoundError:
        skip("no systemd-analyze")
    install(calls)
    os.execvp(sys.argv[2], sys.argv[2:])


main()

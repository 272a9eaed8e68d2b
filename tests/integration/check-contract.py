# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-contract.py XML MANAGER REGION LEASE: the interfaces in the introspection of the three objects are those of the
contract: every method, argument, property, signal and promise about changes, and no other."""

import sys
import xml.etree.ElementTree as ET

OURS = "org.nvidia.Egm1."
# What only tells a reader or a bus library something and promises a client nothing is not compared.
COMPARED = {"org.freedesktop.DBus.Property.EmitsChangedSignal", "org.freedesktop.systemd1.Explicit"}
DEFAULTS = {"org.freedesktop.DBus.Property.EmitsChangedSignal": "true"}


def arguments(member, default):
    return tuple((a.get("name"), a.get("type"), a.get("direction", default)) for a in member.findall("arg"))


def annotations(member):
    found = {a.get("name"): a.get("value") for a in member.findall("annotation")}
    return tuple(sorted((k, v) for k, v in found.items() if k in COMPARED and DEFAULTS.get(k) != v))


def describe(interface):
    """A set of facts, so that what differs can be named."""
    facts = set()
    for member in interface:
        name = member.get("name")
        if member.tag == "method":
            facts.add(("method", name, arguments(member, "in")))
        elif member.tag == "signal":
            facts.add(("signal", name, tuple(a[:2] for a in arguments(member, "out"))))
        elif member.tag == "property":
            facts.add(("property", name, member.get("type"), member.get("access"), annotations(member)))
        elif member.tag != "annotation":
            facts.add(("unknown", member.tag, name))
    return facts


def interfaces(path):
    return {i.get("name"): describe(i) for i in ET.parse(path).getroot().findall("interface")
            if i.get("name").startswith(OURS)}


def main(contract_path, *live_paths):
    contract = interfaces(contract_path)
    expected = [OURS + "Manager", OURS + "Region", OURS + "Lease"]
    bad = [] if sorted(contract) == sorted(expected) else [f"the contract has {sorted(contract)}"]
    compared = 0
    for path, name in zip(live_paths, expected, strict=True):
        live = interfaces(path)
        bad += [f"{path}: unexpected interface {i}" for i in live if i != name]
        bad += [f"{path}: not in the contract: {f}" for f in sorted(live.get(name, set()) - contract[name], key=str)]
        bad += [f"{path}: missing: {f}" for f in sorted(contract[name] - live.get(name, set()), key=str)]
        compared += len(contract[name])
    print(*bad, sep="\n", file=sys.stderr)
    print(f"{compared} members compared")
    return 1 if bad or compared == 0 else 0


sys.exit(main(*sys.argv[1:]))

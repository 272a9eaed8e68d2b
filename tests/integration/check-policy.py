# SPDX-License-Identifier: LGPL-2.1-or-later
"""check-policy.py XML CONF POLICY SOURCE: the bus policy lets everybody call the interfaces of the contract, and those every
object has, and names no methods; what polkit knows are the actions that the daemon asks about."""

import re
import sys
import xml.etree.ElementTree as ET

NAME = "org.nvidia.Egm1"
STANDARD = {f"org.freedesktop.DBus.{i}" for i in ("Introspectable", "Peer", "Properties", "ObjectManager")}


def check_bus_policy(contract, conf):
    own = {i.get("name") for i in ET.parse(contract).getroot().findall("interface")}
    root = ET.parse(conf).getroot()
    bad = [f"rule by member: {rule.attrib}" for policy in root for rule in policy
           if any(key.endswith("_member") or key.endswith("_path") for key in rule.attrib)]
    default = [rule for policy in root.findall("policy[@context='default']") for rule in policy]
    if not default or default[0].tag != "deny" or default[0].attrib != {"send_destination": NAME}:
        bad.append("the default does not begin by denying everything")
    for rule in default[1:]:
        if rule.tag != "allow" or set(rule.attrib) != {"send_destination", "send_interface"}:
            bad.append(f"not one interface: {rule.attrib}")
    allowed = {rule.get("send_interface") for rule in default[1:]}
    bad += [f"not allowed: {i}" for i in sorted((own | STANDARD) - allowed)]
    bad += [f"allowed, but not of the contract: {i}" for i in sorted(allowed - own - STANDARD)]
    owners = [(policy.attrib, rule.attrib) for policy in root for rule in policy if rule.get("own")]
    if owners != [({"user": "root"}, {"own": NAME})]:
        bad.append(f"who may own the name: {owners}")
    return bad


def check_actions(policy, source):
    root = ET.parse(policy).getroot()
    known = {a.get("id"): [d.text for d in a.find("defaults")] for a in root.findall("action")}
    with open(source, encoding="utf-8") as f:
        asked = set(re.findall(r'"(org\.nvidia\.Egm1\.[a-z-]+)"', f.read()))
    bad = [f"action asked but not known: {a}" for a in sorted(asked - set(known))]
    bad += [f"action known but not asked: {a}" for a in sorted(set(known) - asked)]
    for action, defaults in known.items():
        wanted = "yes" if action.endswith(".release-own") else "auth_admin"
        if defaults != [wanted] * 3:
            bad.append(f"{action}: defaults {defaults}")
    return bad if asked else bad + ["no actions"]


def main(contract, conf, policy, source):
    bad = check_bus_policy(contract, conf) + check_actions(policy, source)
    print(*bad, sep="\n", file=sys.stderr)
    return 1 if bad else 0


sys.exit(main(*sys.argv[1:]))

#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# with-system-bus.sh POLICY PROGRAM ARGS...: runs a program with $EGM_TEST_BUS, the address of a private bus with the limits
# and the rules of a system bus (that is what dbus-daemon does unless a session's configuration lifts them), and egmd's own
# policy POLICY. Whoever runs this may own the name as well, and see who reads his messages, unless there is $EGM_TEST_BLIND.
set -eu
. "$(dirname "$0")/../lib.sh"

policy=$1
shift
user=$(id -un)
stats=allow
[ -z "${EGM_TEST_BLIND-}" ] || stats=deny
start_bus_with <<-END
	  <policy context="default">
	    <allow user="*"/>
	    <deny own="*"/>
	    <deny send_type="method_call"/>
	    <allow send_type="signal"/>
	    <allow send_requested_reply="true" send_type="method_return"/>
	    <allow send_requested_reply="true" send_type="error"/>
	    <allow receive_type="method_call"/>
	    <allow receive_type="method_return"/>
	    <allow receive_type="error"/>
	    <allow receive_type="signal"/>
	    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
	    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
	    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
	    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
	  </policy>
	  <include>$policy</include>
	  <policy user="$user">
	    <$stats send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
	    <allow own="org.nvidia.Egm1"/>
	    <allow send_destination="org.nvidia.Egm1"/>
	  </policy>
END
chmod 711 "$tmp"
EGM_TEST_BUS=$bus "$@"

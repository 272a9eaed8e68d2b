# SPDX-License-Identifier: LGPL-2.1-or-later
# For tests of egmctl; source it after lib.sh. $egmctl is the program, $bus the bus if there is one.

# check STATUS OUT ERR ARGS...: runs egmctl ARGS; OUT and ERR must occur in its output ('' for: nothing at all, '*' for:
# anything).
check() {
        _want=$1 _out=$2 _err=$3
        shift 3
        _got=0
        timeout 240 "$egmctl" ${bus:+"--bus=$bus"} "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || _got=$?
        echo >>"$tmp/checks"
        if [ "$_got" -ne "$_want" ] || ! _occurs "$_out" "$tmp/out" || ! _occurs "$_err" "$tmp/err"; then
                echo "egmctl $*: exit status $_got instead of $_want, or not: '$_out', '$_err'" >&2
                sed 's/^/  stdout: /' "$tmp/out" >&2
                sed 's/^/  stderr: /' "$tmp/err" >&2
                exit 1
        fi
}

_occurs() {
        case $1 in
        '*') return 0 ;;
        '') [ ! -s "$2" ] ;;
        *) grep -qF -e "$1" "$2" ;;
        esac
}

# A table on standard input: STATUS | OUT | ERR | ARGS, as check() takes them; ARGS are shell words.
check_table() {
        while IFS='|' read -r _status _o _e _args; do
                case $_status in
                '' | '#'*) continue ;;
                esac
                _o=$(_trim "$_o") _e=$(_trim "$_e")
                eval "check \"\$_status\" \"\$_o\" \"\$_e\" $_args"
        done
}

_trim() {
        printf '%s\n' "$1" | sed 's/^ *//; s/ *$//'
}

# Has `egmctl run`, job $1, nothing of the lease's memory any more? It lets go when the command has begun, which may be well
# before it itself gets to run again; until then it is one of those who hold the lease up.
has_let_go() {
        ! ls -l "/proc/$1/fd" | grep -q 'memfd:egm\|dmabuf'
}

count_checks() {
        echo "$(wc -l <"$tmp/checks") checks."
}

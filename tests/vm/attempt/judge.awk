# SPDX-License-Identifier: LGPL-2.1-or-later
# Holds what egm-attempts printed ("NAME WHO OUTCOME" a line) against the tables of docs/security-attempts.md: one TAP line for each
# attempt, and for each row that nobody tried. Fails if one of them is "not ok".
#     awk -v variant=S4 -v kernel=6.12 -v column=enforced|cooperative -f judge.awk security-attempts.md OUTCOMES
#     awk -v variant=S4 -v kernel=6.12 -v column=gate -f judge.awk security-attempts.md      how many the gate alone refuses
# A row: | name | who | enforced | cooperative | what |; who is "root", "nobody" or "both", and may name the only versions of the
# driver that it is for, "root S3 S4", or the kernel that it takes, "both 6.8": an older one may also refuse.
function trim(s) {
        gsub(/^[ `]+|[ `]+$/, "", s)
        return s
}

function number_of(version, parts) {
        split(version, parts, ".")
        return parts[1] * 1000 + parts[2]
}

function add(name, who) {
        if ((name, who) in wanted) {
                print "not ok - " name " (" who ") has two rows"
                failed = 1
        }
        wanted[name, who] = trim(column == "cooperative" ? $5 : $4)
        refused[name, who] = trim($4)
        got_through[name, who] = trim($5)
        if (old)
                may_lack[name, who] = 1
}

BEGIN { FS = "|" }

FNR == 1 { file++ }

file == 1 && /^\| `/ {
        n = split(trim($3), words, " ")
        old = only = meant = 0
        for (i = 2; i <= n; i++)
                if (words[i] ~ /^[0-9]/) {
                        old = number_of(kernel) < number_of(words[i])
                } else {
                        only = 1
                        meant = meant || words[i] == variant
                }
        if (only && !meant)
                next
        if (words[1] != "nobody")
                add(trim($2), "root")
        if (words[1] != "root")
                add(trim($2), "nobody")
}

file == 2 && !/^#/ {
        split($0, words, " ")
        key = words[1] SUBSEP words[2]
        tried[key]++
        ok = key in wanted && tried[key] == 1 && (wanted[key] == words[3] || (key in may_lack && words[3] ~ /^E[A-Z]+$/))
        print (ok ? "ok - " : "not ok - ") words[1] " (" words[2] "): " words[3] \
                (ok ? "" : "; the table says " (key in wanted ? wanted[key] : "nothing of it"))
        failed = failed || !ok
}

# An errno with the gate, and memory without.
function is_gate(key) {
        return !(key in may_lack) && refused[key] ~ /^E[A-Z]/ && got_through[key] ~ /^(own|other|zeros)$/
}

END {
        for (key in wanted) {
                gate += is_gate(key)
                if (column != "gate" && !(key in tried)) {
                        split(key, words, SUBSEP)
                        print "not ok - " words[1] " (" words[2] "): was not tried"
                        failed = 1
                }
        }
        if (column == "gate")
                print gate + 0
        exit failed
}

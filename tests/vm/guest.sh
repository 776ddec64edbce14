# What all lives have in common; sourced by each, which run in the guest as root.
# Each check prints one line: ROW, its name, ok or BAD, and what was seen, between tabs.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
began=$(date +%s) UNIT=penstock.service
row() { printf 'ROW\t%s\t%s\t%s\n' "$1" "$2" "$3"; }
same() { # NAME WANTED SEEN
    if [ "$2" = "$3" ]; then row "$1" ok "$3"; else row "$1" BAD "$3 (wanted $2)"; fi
}
note() { printf '%s s: %s\n' "$(($(date +%s) - began))" "$*"; }
shows() { systemctl show -p "$1" --value $UNIT; }
signal() { python3 -c "import os; os.kill($(shows MainPID), $1)"; } # there is no kill but the shell's own
until_active() { # SECONDS: waits until it serves again
    left=$1
    until systemctl is-active -q $UNIT; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 1
    done
}
restarted() { # NAME RESTARTS PID: by systemd, once more, and under another number
    left=400
    while [ "$(shows NRestarts)" = "$2" ] || ! systemctl is-active -q $UNIT; do
        left=$((left - 1))
        [ $left -gt 0 ] || break
        sleep 1
    done
    same "$1" "active, restarted $(($2 + 1)) x, another process" \
        "$(systemctl is-active $UNIT), restarted $(shows NRestarts) x, $([ "$(shows MainPID)" = "$3" ] && echo the same || echo another) process"
}
fact() { penstock status --json 2>/dev/null | python3 -c "import json, sys; print(json.load(sys.stdin)['facts']['$1'])"; }
listing() { # every file but those that any machine writes while it runs
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /mnt -o -path /root \
        -o -path /var/log/journal -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /var/cache \) -prune -o -print | sort
}
names_left() { # of files anywhere, of users and groups, of dpkg's and systemd's own notes
    find / -xdev \( -path /proc -o -path /sys -o -path /mnt -o -path /root -o -path /var/log/journal \) -prune -o -iname '*penstock*' -print
    grep -l penstock /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/subuid /etc/subgid /var/lib/dpkg/status 2>/dev/null || true
}
one_line() { tr '\n' ' ' | sed 's/ *$//'; }

serving() {
    until_active 400 || true
    same "service active" "active, watching eth0" "$(systemctl is-active penstock), $(shows StatusText)"
    pid=$(shows MainPID)
    same "one capability, no root" "CAP_NET_RAW alone, user penstock" \
        "$(sed -n 's/^CapEff:\s*//p' /proc/"$pid"/status | sed 's/^0000000000002000$/CAP_NET_RAW alone/'), user $(stat -c %U /proc/"$pid")"
    row "version" "$(penstock --version >/dev/null && echo ok || echo BAD)" "$(penstock --version)"
}

judged() { # FOLDER of the units
    said=$(systemd-analyze verify --man=no "$1"/penstock*.service 2>&1) && code=0 || code=$?
    same "systemd-analyze verify" "silent, 0" "${said:-silent}, $code"
    for unit in "$1"/penstock*.service; do
        said=$(systemd-analyze security --no-pager --offline=true --threshold=20 "$unit" 2>&1) && code=0 || code=$?
        row "exposure of ${unit##*/}" "$([ "$code" = 0 ] && echo ok || echo BAD)" \
            "$(printf '%s\n' "$said" | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p') (at most 2.0)"
    done
}

examined() {
    program=${UNIT%.service}
    "$program" doctor --json >/tmp/doctor.json && code=0 || code=$?
    same "$program doctor" "0 failed, exit code 0" \
        "$(python3 -c 'import json; print(json.load(open("/tmp/doctor.json"))["fail"])') failed, exit code $code"
    "$program" doctor | sed 's/^/DOCTOR\t/' || true
}

reloaded() {
    same "no procps, no /bin/kill" "none" "$(find /bin/kill /usr/bin/pkill 2>/dev/null | one_line | grep . || echo none)"
    before=$(fact reloads)
    systemctl reload penstock && code=0 || code=$?
    sleep 4
    same "systemctl reload" "0, applied, $((before + 1)) in all" "$code, $(fact last_reload), $(fact reloads) in all"
    printf '[scoring]\nnonsense = 1\n' >/etc/penstock/conf.d/50-bad.toml
    systemctl reload penstock || true
    sleep 4
    same "a reload that cannot hold" "refused, active" \
        "$([ "$(fact refused_reloads)" -gt 0 ] && echo refused), $(systemctl is-active penstock)"
    systemctl restart penstock 2>/dev/null || true
    sleep 15
    same "wrong settings at a start" "failed with 78, restarted 0 x" \
        "$(systemctl is-active penstock) with $(shows ExecMainStatus), restarted $(shows NRestarts) x"
    rm /etc/penstock/conf.d/50-bad.toml
}

credential() { # a broker that says whether the password came, and nothing else
    python3 -c '
import socket, sys
server = socket.create_server(("127.0.0.1", 1884))
open("/tmp/listening", "w").close()
while True:
    heard = server.accept()[0].recv(4096)
    open("/tmp/heard", "w").write("the password" if b"of-the-cellar" in heard else "no password")
' &
    broker=$!
    printf '[mqtt]\nurl = "mqtt://127.0.0.1:1884"\nusername = "cellar"\npassword_file = "mqtt-password"\n' \
        >/etc/penstock/conf.d/60-mqtt.toml
    systemctl restart penstock 2>/dev/null && code=0 || code=$?
    same "password asked for, file absent" "not started" "$([ "$code" = 0 ] && echo started || echo not started)"
    (umask 077 && echo of-the-cellar >/etc/penstock/mqtt-password)
    systemctl restart penstock && code=0 || code=$?
    left=60
    until [ -s /tmp/heard ] || [ $left = 0 ]; do left=$((left - 1)); sleep 1; done
    same "LoadCredential: the broker hears" "the password, file root 600" \
        "$(cat /tmp/heard 2>/dev/null), file $(stat -c '%U %a' /etc/penstock/mqtt-password)"
    kill $broker
    rm -f /etc/penstock/conf.d/60-mqtt.toml /tmp/heard /tmp/listening
    systemctl restart penstock
}

killed() {
    until_active 400 || true
    restarts=$(shows NRestarts) pid=$(shows MainPID) stopped=$(date +%s)
    signal 19
    restarted "stopped (SIGSTOP): the watchdog restarts it" "$restarts" "$pid"
    journalctl -u penstock --no-pager -o cat --since "@$stopped" >/tmp/journal
    same "the journal says" "Watchdog timeout" "$(grep -o 'Watchdog timeout' /tmp/journal | head -n 1)"
    restarts=$(shows NRestarts) pid=$(shows MainPID)
    signal 9
    restarted "killed (SIGKILL): restarted" "$restarts" "$pid"
}

whole_packets() {
    if systemd-detect-virt --container --quiet; then # no udev there, and so no unit of a device to bind to
        row "penstock-offloads@eth0" - "not asked: a container has no device units"
        return
    fi
    systemctl enable --quiet --now penstock-offloads@eth0.service 2>/dev/null || true
    same "penstock-offloads@eth0" "active, gro off" \
        "$(systemctl is-active penstock-offloads@eth0), gro $(ethtool -k eth0 | awk '/^generic-receive-offload/ {print $2}')"
}

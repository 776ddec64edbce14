# What both lives of an aggregator have in common; sourced by life_aggregator.sh and life_aggregator_deb.sh.
. /mnt/guest.sh
UNIT=penstock-aggregator.service # said again where it is used
stands() { # the fleet's gateways and round as the service's own command tells them
    penstock-aggregator status --json | python3 -c '
import json, sys
told = json.load(sys.stdin)
held = told["round"]
print(",".join(each["name"] for each in told["gateways"]) or "nobody", held["number"] if held else "no round")'
}
environment() { readlink /opt/penstock/current; }
which_one() { # BEFORE: whether another environment serves by now
    [ "$1" = "$(environment)" ] && echo the one before || echo another
}
alone() { # we are root, and there is one machine
    for name in sudo scp; do
        printf '#!/bin/sh\n%s\n' "$([ $name = scp ] || echo 'exec "$@"')" >/usr/local/bin/$name
        chmod +x /usr/local/bin/$name
    done
}
incomplete() {
    systemctl start $UNIT 2>/dev/null || true
    sleep 15
    same "a start before it is complete" "failed with 78, restarted 0 x" \
        "$(systemctl is-active $UNIT) with $(shows ExecMainStatus), restarted $(shows NRestarts) x"
    same "the journal says" "broker.ca: /etc/penstock/aggregator/ca.pem: No such file or directory" \
        "$(journalctl -u $UNIT --no-pager -o cat | grep -o 'broker.ca: [^,]*' | tail -n 1)"
}
completed() { # by the steps of docs/aggregator.md as they stand there, the gateway's own left out
    cp -r /mnt/desk /tmp/desk
    cd /tmp/desk || exit 1
    for number in 0 1 2 3 4; do
        sh -e /mnt/steps/$number.sh && code=0 || code=$?
        same "step $number of docs/aggregator.md" 0 "$code"
    done
    until_active 400 || true
    pid=$(shows MainPID)
    same "no capability, no root" "0000000000000000, user penstock-aggregator" \
        "$(sed -n 's/^CapEff:\s*//p' /proc/"$pid"/status), user $(stat -c %U /proc/"$pid")"
    openssl genpkey -algorithm ed25519 -out attic.pem 2>/dev/null # what a gateway would have sent
    openssl pkey -in attic.pem -pubout -out attic.pub
    sh -e /mnt/steps/6.sh && code=0 || code=$?
    same "a gateway is enrolled beside the service" "0: attic 1" "$code: $(stands)"
    same "files of root's in the state" none \
        "$(find /var/lib/penstock-aggregator ! -user penstock-aggregator | one_line | grep . || echo none)"
}
struck() {
    restarts=$(shows NRestarts) pid=$(shows MainPID)
    signal 9
    restarted "killed (SIGKILL): restarted" "$restarts" "$pid"
    same "what it knew" "attic 1" "$(stands)"
}
kept() { # of what only the operator has, and what gateways believe
    find /etc/penstock/aggregator.toml /etc/penstock/aggregator/calls.pem /var/lib/penstock-aggregator/aggregator.db |
        wc -l | sed 's/^3$/settings, keys and state kept/'
}
nothing_left() { # WHAT CODE: once what is not ours, the broker's and the desk, is away
    systemctl stop mosquitto
    rm -rf /tmp/source /tmp/desk /etc/mosquitto/certs /etc/mosquitto/penstock.acl /etc/mosquitto/conf.d/penstock.conf \
        /var/lib/mosquitto/mosquitto.db /var/log/mosquitto/*
    same "$1" "0: nothing" "$2: $(names_left | one_line | grep . || echo nothing)"
    listing >/tmp/after
    same "files that were not there before" none "$(comm -13 /tmp/before /tmp/after | one_line | grep . || echo none)"
}

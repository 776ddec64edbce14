# The life of an aggregator: installed, the first steps of docs/aggregator.md, killed, upgraded, brought back, removed.
. /mnt/guest.sh
UNIT=penstock-aggregator.service
INSTALL="sh /mnt/source/deploy/install.sh --role aggregator --wheelhouse /mnt/wheels"
stands() { # STATE, and the fleet's gateways and round as the service's own command tells them
    penstock-aggregator status --json | python3 -c '
import json, sys
told = json.load(sys.stdin)
held = told["round"]
print(",".join(each["name"] for each in told["gateways"]) or "nobody", held["number"] if held else "no round")'
}
note install
for name in sudo scp; do # we are root, and there is one machine
    printf '#!/bin/sh\n%s\n' "$([ $name = scp ] || echo 'exec "$@"')" >/usr/local/bin/$name
    chmod +x /usr/local/bin/$name
done
listing >/tmp/before
$INSTALL && code=0 || code=$?
same "deploy/install.sh --role aggregator" "0, inactive, disabled" \
    "$code, $(systemctl is-active $UNIT), $(systemctl is-enabled $UNIT 2>/dev/null)"
systemctl start $UNIT 2>/dev/null || true
sleep 15
same "a start before it is complete" "failed with 78, restarted 0 x" \
    "$(systemctl is-active $UNIT) with $(shows ExecMainStatus), restarted $(shows NRestarts) x"
same "the journal says" "broker.ca: /etc/penstock/aggregator/ca.pem: No such file or directory" \
    "$(journalctl -u $UNIT --no-pager -o cat | grep -o 'broker.ca: [^,]*' | tail -n 1)"
note steps
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
same "files of root's in the state" none "$(find /var/lib/penstock-aggregator ! -user penstock-aggregator | one_line | grep . || echo none)"
judged /usr/local/lib/systemd/system
penstock-aggregator doctor --json >/tmp/doctor.json && code=0 || code=$?
same "penstock-aggregator doctor" "0 failed, exit code 0" \
    "$(python3 -c 'import json; print(json.load(open("/tmp/doctor.json"))["fail"])') failed, exit code $code"
penstock-aggregator doctor | sed 's/^/DOCTOR\t/' || true
note killed
restarts=$(shows NRestarts) pid=$(shows MainPID)
signal 9
restarted "killed (SIGKILL): restarted" "$restarts" "$pid"
same "what it knew" "attic 1" "$(stands)"
note upgrade
echo '# mine' >>/etc/penstock/aggregator.toml
first=$(readlink /opt/penstock/current)
$INSTALL && code=0 || code=$?
same "install.sh again" "0, another environment, # mine, active, attic 1" \
    "$code, $([ "$first" = "$(readlink /opt/penstock/current)" ] && echo the same || echo another) environment, $(tail -n 1 /etc/penstock/aggregator.toml), $(systemctl is-active $UNIT), $(stands)"
second=$(readlink /opt/penstock/current)
cp -r /mnt/source /tmp/source
sed -i 's/ run --config/ runs --config/' /tmp/source/systemd/$UNIT
sh /tmp/source/deploy/install.sh --role aggregator --wheelhouse /mnt/wheels && code=0 || code=$?
same "a version that does not start" "71, the one before, active, attic 1" \
    "$code, $([ "$second" = "$(readlink /opt/penstock/current)" ] && echo the one before || echo another), $(systemctl is-active $UNIT), $(stands)"
mv /etc/penstock/aggregator/judging /etc/penstock/aggregator/aside
$INSTALL && code=0 || code=$?
same "a version that finds something wrong" "78, the one before, active" \
    "$code, $([ "$second" = "$(readlink /opt/penstock/current)" ] && echo the one before || echo another), $(systemctl is-active $UNIT)"
note remove
cp /opt/penstock/current/share/penstock/uninstall.sh /tmp/uninstall.sh
sh /tmp/uninstall.sh && code=0 || code=$?
same "uninstall.sh" "0, inactive, settings, keys and state kept" \
    "$code, $(systemctl is-active $UNIT), $(find /etc/penstock/aggregator.toml /etc/penstock/aggregator/calls.pem /var/lib/penstock-aggregator/aggregator.db | wc -l | sed 's/^3$/settings, keys and state kept/')"
sh /tmp/uninstall.sh --purge && code=0 || code=$?
systemctl stop mosquitto
rm -rf /tmp/source /tmp/desk /etc/mosquitto/certs /etc/mosquitto/penstock.acl /etc/mosquitto/conf.d/penstock.conf \
    /var/lib/mosquitto/mosquitto.db /var/log/mosquitto/*
same "uninstall.sh --purge leaves" "0: nothing" "$code: $(names_left | one_line | grep . || echo nothing)"
listing >/tmp/after
same "files that were not there before" none "$(comm -13 /tmp/before /tmp/after | one_line | grep . || echo none)"
note end

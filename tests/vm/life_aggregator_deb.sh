# The life of the aggregator's package: installed, completed, killed, upgraded past two that fail, back again, purged.
. /mnt/aggregator.sh
UNIT=penstock-aggregator.service
export DEBIAN_FRONTEND=noninteractive
note install
alone
listing >/tmp/before
dpkg -i /mnt/this.deb && code=0 || code=$?
same "dpkg -i" "0, inactive, disabled" "$code, $(systemctl is-active $UNIT), $(systemctl is-enabled $UNIT 2>/dev/null)"
same "modes and owners" \
    "640 root:penstock-aggregator, 750 root:penstock-aggregator, 600 penstock-aggregator:penstock-aggregator, 700 penstock-aggregator:penstock-aggregator" \
    "$(cd /etc/penstock && stat -c '%a %U:%G' aggregator.toml aggregator aggregator/bundles.pem /var/lib/penstock-aggregator | one_line | sed 's/ \([67]\)/, \1/g')"
said=$(dpkg --no-act -i /mnt/gateway.deb 2>&1) && code=0 || code=$? # asked only: dpkg would note the wish in its status
same "a gateway's package on top of it" "1, penstock conflicts with penstock-aggregator" \
    "$code, $(printf '%s\n' "$said" | sed -n 's/^ \(.* conflicts with .*\)/\1/p')"
incomplete
note steps
completed
judged /usr/lib/systemd/system
examined
same "what a store in PostgreSQL wants" "there" \
    "$(/opt/penstock/current/bin/python -c 'import psycopg; print("there")' 2>&1 | tail -n 1)"
note killed
struck
note upgrade
echo '# mine' >>/etc/penstock/aggregator.toml
cat /etc/penstock/aggregator/*.pem >/tmp/keys
first=$(environment)
mv /etc/penstock/aggregator/judging /etc/penstock/aggregator/aside
dpkg -i --force-confdef --force-confold /mnt/next.deb && code=0 || code=$?
same "a version that finds something wrong" "1, the one before, active, attic 1" \
    "$code, $(which_one "$first"), $(systemctl is-active $UNIT), $(stands)"
mv /etc/penstock/aggregator/aside /etc/penstock/aggregator/judging
mkdir -p /etc/systemd/system/$UNIT.d
cat >/etc/systemd/system/$UNIT.d/mine.conf <<TEXT
[Service]
ExecStartPre=/bin/sh -c "test \$\$(readlink /opt/penstock/current) = $first"
TEXT
dpkg --configure penstock-aggregator && code=0 || code=$?
same "a version that does not start" "1, the one before, active, attic 1" \
    "$code, $(which_one "$first"), $(systemctl is-active $UNIT), $(stands)"
printf '[Service]\nNice=1\n' >/etc/systemd/system/$UNIT.d/mine.conf
dpkg --configure penstock-aggregator && code=0 || code=$?
same "put right, its configuration file changed too" "0, another, # mine, theirs beside it, active, attic 1" \
    "$code, $(which_one "$first"), $(tail -n 1 /etc/penstock/aggregator.toml), $([ -e /etc/penstock/aggregator.toml.dpkg-dist ] && echo theirs beside it), $(systemctl is-active $UNIT), $(stands)"
same "keys" "the same" "$(cat /etc/penstock/aggregator/*.pem | cmp -s - /tmp/keys && echo the same || echo others)"
same "environments" 1 "$(find /opt/penstock -maxdepth 1 -name 'env-*' | wc -l)"
note remove
dpkg -r penstock-aggregator && code=0 || code=$?
same "dpkg -r" "0, inactive, no environment, settings, keys and state kept" \
    "$code, $(systemctl is-active $UNIT), $([ -e /opt/penstock ] && echo an || echo no) environment, $(kept)"
dpkg -i --force-confdef --force-confold /mnt/next.deb && code=0 || code=$?
until_active 400 || true
same "installed again" "0, active, attic 1, the same keys" \
    "$code, $(systemctl is-active $UNIT), $(stands), $(cat /etc/penstock/aggregator/*.pem | cmp -s - /tmp/keys && echo the same || echo other) keys"
dpkg -P penstock-aggregator && code=0 || code=$?
nothing_left "dpkg -P leaves" "$code"
note end

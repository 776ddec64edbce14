# The life of an aggregator: installed, the first steps of docs/aggregator.md, killed, upgraded, brought back, removed.
. /mnt/aggregator.sh
UNIT=penstock-aggregator.service
INSTALL="sh /mnt/source/deploy/install.sh --role aggregator --wheelhouse /mnt/wheels"
note install
alone
listing >/tmp/before
$INSTALL && code=0 || code=$?
same "deploy/install.sh --role aggregator" "0, inactive, disabled" \
    "$code, $(systemctl is-active $UNIT), $(systemctl is-enabled $UNIT 2>/dev/null)"
incomplete
note steps
completed
judged /usr/local/lib/systemd/system
examined
note killed
struck
note upgrade
echo '# mine' >>/etc/penstock/aggregator.toml
first=$(environment)
$INSTALL && code=0 || code=$?
same "install.sh again" "0, another, # mine, active, attic 1" \
    "$code, $(which_one "$first"), $(tail -n 1 /etc/penstock/aggregator.toml), $(systemctl is-active $UNIT), $(stands)"
second=$(environment)
cp -r /mnt/source /tmp/source
sed -i 's/ run --config/ runs --config/' /tmp/source/systemd/$UNIT
sh /tmp/source/deploy/install.sh --role aggregator --wheelhouse /mnt/wheels && code=0 || code=$?
same "a version that does not start" "71, the one before, active, attic 1" \
    "$code, $(which_one "$second"), $(systemctl is-active $UNIT), $(stands)"
mv /etc/penstock/aggregator/judging /etc/penstock/aggregator/aside
$INSTALL && code=0 || code=$?
same "a version that finds something wrong" "78, the one before, active" \
    "$code, $(which_one "$second"), $(systemctl is-active $UNIT)"
note remove
cp /opt/penstock/current/share/penstock/uninstall.sh /tmp/uninstall.sh
sh /tmp/uninstall.sh && code=0 || code=$?
same "uninstall.sh" "0, inactive, settings, keys and state kept" "$code, $(systemctl is-active $UNIT), $(kept)"
sh /tmp/uninstall.sh --purge && code=0 || code=$?
nothing_left "uninstall.sh --purge leaves" "$code"
note end

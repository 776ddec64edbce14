# The life of an installation by deploy/install.sh: installed, used, killed, upgraded, removed, purged.
. /mnt/guest.sh
note install
listing >/tmp/before
sh /mnt/source/deploy/install.sh --wheelhouse /mnt/wheels --offloads keep && code=0 || code=$?
same "deploy/install.sh" 0 "$code"
serving
judged /usr/local/lib/systemd/system
examined
note reload
reloaded
note credential
credential
note watchdog
killed
whole_packets
note upgrade
echo '# mine' >>/etc/penstock/agent.toml
first=$(readlink /opt/penstock/current)
sh /mnt/source/deploy/install.sh --wheelhouse /mnt/wheels --offloads keep && code=0 || code=$?
same "install.sh again" "0, another environment, # mine, active" \
    "$code, $([ "$first" = "$(readlink /opt/penstock/current)" ] && echo the same || echo another) environment, $(tail -n 1 /etc/penstock/agent.toml), $(systemctl is-active penstock)"
note remove
cp /opt/penstock/current/share/penstock/uninstall.sh /tmp/uninstall.sh
sh /tmp/uninstall.sh && code=0 || code=$?
same "uninstall.sh" "0, inactive, configuration kept" \
    "$code, $(systemctl is-active penstock), configuration $([ -e /etc/penstock/agent.toml ] && echo kept || echo gone)"
sh /tmp/uninstall.sh --purge && code=0 || code=$?
same "uninstall.sh --purge leaves" "0: nothing" "$code: $(names_left | one_line | grep . || echo nothing)"
listing >/tmp/after
same "files that were not there before" none "$(comm -13 /tmp/before /tmp/after | one_line | grep . || echo none)"
note end

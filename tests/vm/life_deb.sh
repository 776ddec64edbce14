# The life of the package: installed, used, killed, upgraded with a changed configuration file, removed, purged.
. /mnt/guest.sh
export DEBIAN_FRONTEND=noninteractive
note install
listing >/tmp/before
dpkg -i /mnt/this.deb && code=0 || code=$?
same "dpkg -i" 0 "$code"
serving
judged /usr/lib/systemd/system
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
mkdir -p /etc/systemd/system/penstock.service.d
printf '[Service]\nNice=1\n' >/etc/systemd/system/penstock.service.d/mine.conf
first=$(readlink /opt/penstock/current)
dpkg -i --force-confdef --force-confold /mnt/next.deb && code=0 || code=$?
same "upgrade, its configuration file changed too" "0, another environment, # mine, theirs beside it, active" \
    "$code, $([ "$first" = "$(readlink /opt/penstock/current)" ] && echo the same || echo another) environment, $(tail -n 1 /etc/penstock/agent.toml), $([ -e /etc/penstock/agent.toml.dpkg-dist ] && echo theirs beside it), $(systemctl is-active penstock)"
same "environments" 1 "$(find /opt/penstock -maxdepth 1 -name 'env-*' | wc -l)"
systemctl disable --quiet penstock-offloads@eth0.service || true
note remove
dpkg -r penstock && code=0 || code=$?
same "dpkg -r" "0, inactive, no environment, configuration kept" \
    "$code, $(systemctl is-active penstock), $([ -e /opt/penstock ] && echo an || echo no) environment, configuration $([ -e /etc/penstock/agent.toml ] && echo kept || echo gone)"
dpkg -P penstock && code=0 || code=$?
same "dpkg -P leaves" "0: nothing" "$code: $(names_left | one_line | grep . || echo nothing)"
listing >/tmp/after
same "files that were not there before" none "$(comm -13 /tmp/before /tmp/after | one_line | grep . || echo none)"
note end

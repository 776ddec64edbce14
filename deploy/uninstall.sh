#!/bin/sh
# Takes Penstock off this machine, gateway or aggregator: service, units, environment. Configuration, state and alerts
# stay, unless --purge.
set -eu

HOME_DIR=/opt/penstock
UNITS=/usr/local/lib/systemd/system
PURGED="/etc/penstock /var/lib/penstock /var/log/penstock /var/cache/penstock-tensorrt /run/penstock /run/penstock-tensorrt
    /var/lib/penstock-aggregator"

say() { printf 'penstock: %s\n' "$*"; }
end() { code=$1; shift; printf 'penstock: %s\n' "$*" >&2; exit "$code"; }
has() { command -v "$1" >/dev/null 2>&1; }

purge=no
for each in "$@"; do
    case $each in
    --purge) purge=yes ;;
    -h | --help)
        cat <<'TEXT'
usage: sudo deploy/uninstall.sh [--purge]

  --purge   also remove configuration and keys, state, alerts, plans, and the user

exit codes: 0 done (also where nothing was installed), 64 usage, 77 not root
TEXT
        exit 0 ;;
    *) end 64 "unknown option $each (see deploy/uninstall.sh --help)" ;;
    esac
done
[ "$(id -u)" = 0 ] || end 77 "removing needs root: sudo deploy/uninstall.sh"

is_booted=no
[ ! -d /run/systemd/system ] || is_booted=yes
if has systemctl; then
    for link in /etc/systemd/system/*.wants/penstock-offloads@*.service; do
        [ ! -L "$link" ] || systemctl disable --quiet "$(basename -- "$link")" 2>/dev/null || rm -f -- "$link"
    done
    # Stopped as well: while it is active, systemd keeps the unit's private /tmp.
    [ $is_booted = no ] || systemctl stop 'penstock-offloads@*.service' 2>/dev/null || true
    for unit in penstock.service penstock-tensorrt.service penstock-finetune.timer penstock-finetune.path \
        penstock-finetune.service penstock-aggregator.service; do
        [ $is_booted = no ] || systemctl stop "$unit" 2>/dev/null || true
        systemctl disable --quiet "$unit" 2>/dev/null || true
    done
fi
for unit in penstock.service penstock-tensorrt.service penstock-offloads@.service penstock-finetune.service \
    penstock-finetune.timer penstock-finetune.path penstock-aggregator.service; do rm -f -- "$UNITS/$unit"; done
rm -rf -- "$UNITS/penstock.service.d"
for user in penstock penstock-aggregator; do
    rm -f -- "/usr/local/lib/sysusers.d/$user.conf" "/usr/local/lib/tmpfiles.d/$user.conf"
    case $(readlink "/usr/local/bin/$user" 2>/dev/null || true) in "$HOME_DIR"/*) rm -f -- "/usr/local/bin/$user" ;; esac
done
for folder in /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d "$UNITS" /usr/local/lib/systemd; do
    rmdir -- "$folder" 2>/dev/null || true # not ours alone: only where it is empty
done
for folder in /etc/systemd/system/sys-subsystem-net-devices-*.device.wants; do rmdir -- "$folder" 2>/dev/null || true; done
if [ $is_booted = yes ]; then
    systemctl daemon-reload
    systemctl reset-failed 'penstock*' 2>/dev/null || true
fi
if [ $purge = yes ]; then
    for folder in $PURGED; do rm -rf -- "$folder"; done
    for user in penstock penstock-aggregator; do
        if getent passwd $user >/dev/null; then
            if has userdel; then userdel $user; else say "no userdel here: the user $user stays"; fi
        fi
        if getent group $user >/dev/null && has groupdel; then groupdel $user; fi
    done
    rm -rf -- "$HOME_DIR"
    say "removed, with configuration, state and alerts"
else
    rm -rf -- "$HOME_DIR"
    kept=''
    for folder in $PURGED; do [ ! -d "$folder" ] || kept="$kept $folder,"; done
    say "removed; kept:${kept%,} and the user (--purge removes them)"
fi
exit 0

#!/bin/sh
# Installs Penstock on this machine, or upgrades it: an environment of its own under /opt/penstock, a user, units, and a
# configuration where there is none. Run again at any time; docs/install.md says what is made and what each step needs.
# A new version stands beside the old one until it is whole; one that cannot start gives way to the one before.
set -eu
umask 022

USAGE=64 MISSING=69 FAILED=71 NOT_ROOT=77 BAD_CONFIG=78
HOME_DIR=/opt/penstock
CONFIG=/etc/penstock/agent.toml
UNITS=/usr/local/lib/systemd/system
SYSUSERS=/usr/local/lib/sysusers.d/penstock.conf
TMPFILES=/usr/local/lib/tmpfiles.d/penstock.conf
COMMAND=/usr/local/bin/penstock

usage() {
    cat <<'TEXT'
usage: sudo deploy/install.sh [options]

  --interface IFACE        what a new configuration watches (default: the interface of the default route)
  --python PROGRAM         Python 3.10 or later (default: python3)
  --extra cpu|gpu|none     which ONNX Runtime comes with it (default: cpu; none: it stands in the system's Python)
  --system-site-packages   let the environment see the system's Python packages, as JetPack 6's runtime
  --constraints FILE       take these versions, as those known to fit a JetPack (deploy/jetpack/)
  --wheelhouse DIR         take every package, penstock too, from this folder and none from the network
  --offloads off|keep      switch GRO, LRO, GSO and TSO off on the watched interface, now and at each start (default: ask)
  --no-start               neither enable nor start the service
  -h, --help               this text

exit codes: 0 done, 64 usage, 69 something is missing (named with its apt line), 71 a step failed and nothing changed,
77 not root, 78 installed, but the configuration does not hold (the service is not started)
TEXT
}

say() { printf 'penstock: %s\n' "$*"; }
end() { code=$1; shift; printf 'penstock: %s\n' "$*" >&2; exit "$code"; }
has() { command -v "$1" >/dev/null 2>&1; }

interface='' python=python3 extra=cpu site='' constraints='' wheelhouse='' offloads=ask starts=yes
while [ $# -gt 0 ]; do
    case $1 in
    --system-site-packages) site=--system-site-packages ;;
    --no-start) starts=no ;;
    -h | --help) usage; exit 0 ;;
    --interface | --python | --extra | --constraints | --wheelhouse | --offloads)
        [ $# -gt 1 ] || end $USAGE "$1 wants a value (see deploy/install.sh --help)"
        case $1 in
        --interface) interface=$2 ;;
        --python) python=$2 ;;
        --extra) extra=$2 ;;
        --constraints) constraints=$2 ;;
        --wheelhouse) wheelhouse=$2 ;;
        --offloads) offloads=$2 ;;
        esac
        shift ;;
    *) end $USAGE "unknown option $1 (see deploy/install.sh --help)" ;;
    esac
    shift
done
case $extra in cpu | gpu | none) ;; *) end $USAGE "--extra $extra, wanted cpu, gpu or none" ;; esac
case $offloads in ask | off | keep) ;; *) end $USAGE "--offloads $offloads, wanted off or keep" ;; esac
case $interface in *[!A-Za-z0-9_.:@-]*) end $USAGE "--interface $interface: no name of an interface" ;; esac
[ -z "$constraints" ] || [ -f "$constraints" ] || end $USAGE "--constraints $constraints: no such file"
[ -z "$wheelhouse" ] || [ -d "$wheelhouse" ] || end $USAGE "--wheelhouse $wheelhouse: no such folder"
[ "$(id -u)" = 0 ] || end $NOT_ROOT "installing needs root: sudo deploy/install.sh"

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
[ -f "$source/systemd/penstock.service" ] || end $USAGE "$source: not the folder of Penstock's sources"
[ ! -e /usr/lib/systemd/system/penstock.service ] ||
    end $FAILED "the package penstock is installed here: first apt-get remove penstock (configuration and state stay)"

# --- what must be there ----------------------------------------------------------------------------------------------

missing='' packages=''
lacks() {
    missing="$missing${missing:+, }$1"
    packages="$packages $2"
}

preflight() {
    named=$(basename -- "$python")
    case $named in python3*) ;; *) named=python3 ;; esac
    if ! has "$python"; then
        lacks "$python (3.10 or later)" "$named $named-venv"
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        end $MISSING "$python is Python $version, wanted 3.10 or later: name another with --python (docs/install.md)"
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv module" "$named-venv"
        if [ -z "$wheelhouse" ]; then
            "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
                lacks "Python's headers" "$named-dev"
            has gcc || has cc || lacks "a C compiler" gcc
        fi
    fi
    has systemd-sysusers || has useradd || lacks "useradd" passwd
    [ "$offloads" != off ] || has ethtool || lacks ethtool ethtool
    [ -z "$missing" ] || end $MISSING "missing: $missing; on Debian or Ubuntu: sudo apt-get install$packages"
}
preflight

is_booted=no
[ ! -d /run/systemd/system ] || is_booted=yes
systemd_version=0
if has systemctl; then
    systemd_version=$(systemctl --version | awk 'NR == 1 { split($2, part, /[^0-9]/); print part[1] + 0 }')
fi

# --- the environment -------------------------------------------------------------------------------------------------

environment=$HOME_DIR/env-$(date -u +%Y%m%dT%H%M%S)-$$
scratch=''
undo() {
    [ -z "$scratch" ] || rm -rf -- "$scratch"
    [ -z "$environment" ] || rm -rf -- "$environment"
}
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
    mkdir -p "$HOME_DIR"
    scratch=$(mktemp -d)
    # shellcheck disable=SC2086 # one option or none
    "$python" -m venv $site "$environment" >"$scratch/log" 2>&1 || return 1
    set -- "$environment/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-cache-dir
    # The variable, unlike the option, also binds what compiles the core.
    if [ -n "$constraints" ]; then
        PIP_CONSTRAINT=$(readlink -f -- "$constraints")
        export PIP_CONSTRAINT
    fi
    wanted=penstock
    if [ -n "$wheelhouse" ]; then
        set -- "$@" --no-index --find-links "$wheelhouse"
    else
        # A copy: building leaves files behind, and the checkout is somebody's.
        mkdir "$scratch/source"
        tar -C "$source" --exclude=./.git --exclude='./.venv*' --exclude=./.cache --exclude=./build --exclude=./tests \
            --exclude='*.so' --exclude=__pycache__ -cf - . | tar -C "$scratch/source" --no-same-owner -xf - || return 1
        wanted=$scratch/source
    fi
    [ "$extra" = none ] || wanted="${wanted}[$extra]"
    "$@" "$wanted" >"$scratch/log" 2>&1 || return 1
    "$environment/bin/penstock" --version >"$scratch/log" 2>&1
}

say "making the environment in $environment (minutes on a small board)"
if ! build; then
    tail -n 5 "$scratch/log" >&2
    end $FAILED "the environment cannot be made, nothing else was changed; the last lines of the log stand above"
fi
share=$environment/share/penstock
packages_dir=$("$environment/bin/python" -c 'import detection; print(detection.__path__[0])')
mkdir -p "$share/tensorrt"
cp "$packages_dir/tensorrt_worker.py" "$packages_dir/tensorrt_build.py" "$share/tensorrt/"
cp "$source/deploy/agent.toml" "$source/docs/service.md" "$source/docs/tensorrt.md" "$source/docs/federation.md" "$share/"
cp "$source/deploy/uninstall.sh" "$share/uninstall.sh"
chmod 0755 "$share/uninstall.sh"

# --- user, folders, units, configuration -----------------------------------------------------------------------------

put() { # a file under a name, its folder made
    mkdir -p "$(dirname -- "$2")"
    install -m 0644 -- "$1" "$2"
}
put "$source/systemd/sysusers.d/penstock.conf" "$SYSUSERS"
put "$source/systemd/tmpfiles.d/penstock.conf" "$TMPFILES"
if has systemd-sysusers; then
    systemd-sysusers "$SYSUSERS"
elif ! getent passwd penstock >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/penstock --no-create-home --shell /usr/sbin/nologin penstock
fi
for folder in /etc/penstock /etc/penstock/conf.d /etc/penstock/trust.d /etc/penstock/aggregators.d; do
    [ -d "$folder" ] || install -d -m 0755 "$folder"
done
for folder in /var/lib/penstock /var/log/penstock; do
    [ -d "$folder" ] || install -d -m 0750 -o penstock -g penstock "$folder"
done
if [ -f /etc/penstock/mqtt-password ]; then
    chown root:penstock /etc/penstock/mqtt-password
    chmod 0640 /etc/penstock/mqtt-password
fi

default_interface() {
    found=$(awk '$2 == "00000000" { print $1; exit }' /proc/net/route 2>/dev/null || true)
    for each in /sys/class/net/*; do
        name=$(basename -- "$each")
        [ -n "$found" ] || [ "$name" = lo ] || [ ! -e "$each/address" ] || found=$name
    done
    printf '%s' "${found:-eth0}"
}

if [ ! -e "$CONFIG" ]; then
    [ -n "$interface" ] || interface=$(default_interface)
    sed -e "s|^interfaces = .*|interfaces = [\"$interface\"]|" \
        -e 's|^#path = "/var/log/penstock/eve.json"|path = "/var/log/penstock/eve.json"|' \
        "$source/deploy/agent.toml" >"$CONFIG.new"
    chown root:penstock "$CONFIG.new"
    chmod 0640 "$CONFIG.new"
    mv "$CONFIG.new" "$CONFIG"
    say "new configuration $CONFIG: watches $interface, writes /var/log/penstock/eve.json"
else
    say "kept $CONFIG as it is"
fi

before=$(readlink "$HOME_DIR/current" 2>/dev/null || true)
code=0
"$environment/bin/penstock" check-config "$CONFIG" || code=$BAD_CONFIG
if [ $code != 0 ] && [ -n "$before" ]; then
    end $code "the new version cannot work with $CONFIG (see above): the one before stays"
fi

for unit in penstock.service penstock-tensorrt.service penstock-offloads@.service penstock-finetune.service \
    penstock-finetune.timer penstock-finetune.path; do
    put "$source/systemd/$unit" "$UNITS/$unit"
done
drop_in() { put "$source/systemd/penstock.service.d/$1.conf" "$UNITS/penstock.service.d/10-$1.conf"; }
rm -rf -- "$UNITS/penstock.service.d"
if [ "$systemd_version" -gt 0 ] && [ "$systemd_version" -lt 247 ]; then drop_in old-systemd; fi
board=$(tr -d '\000' 2>/dev/null </proc/device-tree/model || true)
case $board in *Orin*) ;; *"Jetson Nano"*) drop_in jetson-nano ;; esac
has_tensorrt=no
if [ -f /etc/nv_tegra_release ] && /usr/bin/python3 -c 'import tensorrt' 2>/dev/null; then
    has_tensorrt=yes
    drop_in tensorrt
fi

# --- the new version takes over --------------------------------------------------------------------------------------

was_active=no
if [ $is_booted = yes ] && systemctl is-active --quiet penstock.service; then was_active=yes; fi
point() { # atomically: the link is never absent
    ln -sfn -- "$1" "$HOME_DIR/.current.new"
    mv -T -- "$HOME_DIR/.current.new" "$HOME_DIR/current"
}
point "$(basename -- "$environment")"
mkdir -p "$(dirname -- "$COMMAND")"
ln -sfn "$HOME_DIR/current/bin/penstock" "$COMMAND"
new=$environment
environment='' # it serves: no longer undone

forget_others() {
    for each in "$HOME_DIR"/env-*; do
        [ "$each" = "$new" ] || [ ! -d "$each" ] || rm -rf -- "$each"
    done
}

tell_offloads() {
    name=$(sed -n 's/^interfaces = \["\([^"]*\)".*/\1/p' "$CONFIG" | head -n 1)
    [ -n "$name" ] && [ -e "/sys/class/net/$name" ] || return 0
    line="ethtool -K $name gro off lro off gso off tso off"
    if [ "$offloads" = ask ] && [ -t 0 ] && has ethtool; then
        printf 'penstock: switch off what glues packets together on %s (%s)? [y/N] ' "$name" "$line"
        read -r answer || answer=n
        case $answer in y | Y | yes) offloads=off ;; *) offloads=keep ;; esac
    fi
    if [ "$offloads" = off ]; then
        for each in gro lro gso tso; do ethtool -K "$name" "$each" off >/dev/null 2>&1 || true; done
        unit=penstock-offloads@$(systemd-escape "$name" 2>/dev/null || printf '%s' "$name").service
        if has systemctl; then
            systemctl enable --quiet "$unit" || say "$unit cannot be enabled; after a start: $line"
        fi
        say "offloads of $name are off ($line)"
    elif [ "$offloads" = ask ]; then
        say "for whole packets: $line (or install with --offloads off)"
    fi
}
tell_offloads

learns() { # federation is on: what learns on this gateway is started once a day, and when the agent asks
    "$HOME_DIR/current/bin/penstock" check-config "$CONFIG" --json 2>/dev/null | "$HOME_DIR/current/bin/python" -c \
        'import json, sys; sys.exit(not json.load(sys.stdin).get("config", {}).get("federation", {}).get("enabled"))'
}

if ! has systemctl; then
    say "no systemd here: start it as penstock with CAP_NET_RAW: $COMMAND run --config $CONFIG"
elif [ $starts = yes ] && [ $code = 0 ]; then
    [ $is_booted = no ] || systemctl daemon-reload
    [ $has_tensorrt = no ] || systemctl enable --quiet penstock-tensorrt.service
    systemctl enable --quiet penstock.service
    if learns; then
        systemctl enable --quiet penstock-finetune.timer penstock-finetune.path
        [ $is_booted = no ] || systemctl start penstock-finetune.timer penstock-finetune.path || true
    fi
    if [ $is_booted = no ]; then
        say "enabled; systemd is not running here, so it starts with the machine"
    elif systemctl restart penstock.service; then
        say "the service is active: systemctl status penstock, penstock status, penstock doctor"
    elif [ -n "$before" ] && [ $was_active = yes ]; then
        point "$before"
        new=$HOME_DIR/$before
        systemctl restart penstock.service || true
        forget_others
        end $FAILED "the new version does not start (journalctl -u penstock); the one before serves again"
    else
        end $FAILED "the service does not start: journalctl -u penstock; penstock doctor"
    fi
elif [ $is_booted = yes ]; then
    systemctl daemon-reload
fi
forget_others
[ $code = 0 ] || end $code "installed, but the configuration does not hold: see above, then penstock check-config"
say "installed: $("$COMMAND" --version); remove it with $HOME_DIR/current/share/penstock/uninstall.sh"

#!/bin/sh
# Installs Penstock on this machine, or upgrades it: an environment of its own under /opt/penstock, a user, units, and a
# configuration where there is none. Run again at any time; docs/install.md says what is made and what each step needs,
# docs/aggregator.md the same of --role aggregator.
# A new version stands beside the old one until it is whole; one that cannot start gives way to the one before.
set -eu
umask 022

USAGE=64 MISSING=69 FAILED=71 NOT_ROOT=77 BAD_CONFIG=78
HOME_DIR=/opt/penstock
UNITS=/usr/local/lib/systemd/system

usage() {
    cat <<'TEXT'
usage: sudo deploy/install.sh [options]

  --role ROLE              gateway (default), or aggregator: a server that holds the rounds of a fleet
  --interface IFACE        what a new configuration watches (default: the interface of the default route)
  --python PROGRAM         Python 3.10 or later, for an aggregator 3.11 (default: python3)
  --extra cpu|gpu|none     which ONNX Runtime comes with it (default: cpu; none: it stands in the system's Python);
                           for an aggregator also cpu,federate,postgres, or one of the two: Flower's strategies, and what
                           a store in PostgreSQL wants
  --system-site-packages   let the environment see the system's Python packages, as JetPack 6's runtime
  --constraints FILE       take these versions, as those known to fit a JetPack (deploy/jetpack/)
  --wheelhouse DIR         take every package, penstock too, from this folder and none from the network
  --offloads off|keep      switch GRO, LRO, GSO and TSO off on the watched interface, now and at each start (default: ask)
  --no-start               neither enable nor start the service
  -h, --help               this text

exit codes: 0 done, 64 usage, 69 something is missing (named with its apt line), 71 a step failed and nothing changed,
77 not root, 78 installed, but the configuration does not hold (the service is not started); an aggregator that was never
enabled ends with 0 there, since nobody but you can complete what a new one lacks
TEXT
}

say() { printf 'penstock: %s\n' "$*"; }
end() { code=$1; shift; printf 'penstock: %s\n' "$*" >&2; exit "$code"; }
has() { command -v "$1" >/dev/null 2>&1; }

role=gateway interface='' python=python3 extra=cpu site='' constraints='' wheelhouse='' offloads=ask starts=yes
while [ $# -gt 0 ]; do
    case $1 in
    --system-site-packages) site=--system-site-packages ;;
    --no-start) starts=no ;;
    -h | --help) usage; exit 0 ;;
    --role | --interface | --python | --extra | --constraints | --wheelhouse | --offloads)
        [ $# -gt 1 ] || end $USAGE "$1 wants a value (see deploy/install.sh --help)"
        case $1 in
        --role) role=$2 ;;
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
case $role in
gateway)
    user=penstock unit=penstock.service CONFIG=/etc/penstock/agent.toml COMMAND=/usr/local/bin/penstock oldest=10
    other=aggregator
    case $extra in cpu | gpu | none) ;; *) end $USAGE "--extra $extra, wanted cpu, gpu or none" ;; esac ;;
aggregator)
    user=penstock-aggregator unit=penstock-aggregator.service oldest=11
    CONFIG=/etc/penstock/aggregator.toml COMMAND=/usr/local/bin/penstock-aggregator other=gateway
    [ -z "$interface" ] || end $USAGE "--interface: an aggregator watches none"
    [ "$offloads" = ask ] || end $USAGE "--offloads: an aggregator watches no interface"
    case $extra in
    cpu | none | cpu,federate | cpu,postgres | cpu,federate,postgres) ;;
    *) end $USAGE "--extra $extra, wanted none or cpu, or cpu,federate,postgres or one of these two" ;;
    esac ;;
*) end $USAGE "--role $role, wanted gateway or aggregator" ;;
esac
SYSUSERS=/usr/local/lib/sysusers.d/$user.conf TMPFILES=/usr/local/lib/tmpfiles.d/$user.conf
case $offloads in ask | off | keep) ;; *) end $USAGE "--offloads $offloads, wanted off or keep" ;; esac
case $interface in *[!A-Za-z0-9_.:@-]*) end $USAGE "--interface $interface: no name of an interface" ;; esac
[ -z "$constraints" ] || [ -f "$constraints" ] || end $USAGE "--constraints $constraints: no such file"
[ -z "$wheelhouse" ] || [ -d "$wheelhouse" ] || end $USAGE "--wheelhouse $wheelhouse: no such folder"
[ "$(id -u)" = 0 ] || end $NOT_ROOT "installing needs root: sudo deploy/install.sh"

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
[ -f "$source/systemd/penstock.service" ] || end $USAGE "$source: not the folder of Penstock's sources"
for each in penstock penstock-aggregator; do
    [ ! -e /usr/lib/systemd/system/$each.service ] ||
        end $FAILED "the package $each is installed here: first apt-get remove $each (configuration and state stay)"
done
case $role in gateway) others=penstock-aggregator.service ;; *) others=penstock.service ;; esac
[ ! -e "$UNITS/$others" ] ||
    end $FAILED "this machine is installed as $other, and one machine is one or the other: first deploy/uninstall.sh"

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
        lacks "$python (3.$oldest or later)" "$named $named-venv"
    elif ! "$python" -c "import sys; sys.exit(sys.version_info < (3, $oldest))"; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        end $MISSING "$python is Python $version, wanted 3.$oldest or later: name another with --python"
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
mkdir -p "$share"
case $role in
gateway)
    packages_dir=$("$environment/bin/python" -c 'import detection; print(detection.__path__[0])')
    mkdir "$share/tensorrt"
    cp "$packages_dir/tensorrt_worker.py" "$packages_dir/tensorrt_build.py" "$share/tensorrt/"
    cp "$source/deploy/agent.toml" "$source/docs/service.md" "$source/docs/tensorrt.md" "$share/" ;;
aggregator)
    cp "$source/deploy/aggregator.toml" "$source/docs/aggregator.md" "$source/deploy/mosquitto/penstock.acl" \
        "$source/deploy/mosquitto/penstock.conf" "$share/" ;;
esac
cp "$source/docs/federation.md" "$source/deploy/uninstall.sh" "$share/"
chmod 0755 "$share/uninstall.sh"

# --- user, folders, units, configuration -----------------------------------------------------------------------------

held=''
hold() { # what stands at a path, or that nothing does, to bring it back where the one before goes on
    held="$held $1"
    [ -e "$1" ] || [ -L "$1" ] || return 0
    mkdir -p "$scratch/held$(dirname -- "$1")"
    cp -a -- "$1" "$scratch/held$1"
}
bring_back() {
    for each in $held; do
        rm -rf -- "$each"
        if [ -e "$scratch/held$each" ] || [ -L "$scratch/held$each" ]; then cp -a -- "$scratch/held$each" "$each"; fi
    done
}
put() { # a file under a name, its folder made
    mkdir -p "$(dirname -- "$2")"
    install -m 0644 -- "$1" "$2"
}
hold "$SYSUSERS"
hold "$TMPFILES"
put "$source/systemd/sysusers.d/$user.conf" "$SYSUSERS"
put "$source/systemd/tmpfiles.d/$user.conf" "$TMPFILES"
if has systemd-sysusers; then
    systemd-sysusers "$SYSUSERS"
elif ! getent passwd "$user" >/dev/null; then
    useradd --system --user-group --home-dir "/var/lib/$user" --no-create-home --shell /usr/sbin/nologin "$user"
fi
folder() { # MODE OWNER NAME: made where there is none
    [ -d "$3" ] || install -d -m "$1" -o "$2" -g "$2" "$3"
}
folder 0755 root /etc/penstock
folder 0755 root /etc/penstock/trust.d

furnish_gateway() {
    folder 0755 root /etc/penstock/conf.d
    folder 0755 root /etc/penstock/aggregators.d
    folder 0750 penstock /var/lib/penstock
    folder 0750 penstock /var/log/penstock
    if [ -f /etc/penstock/mqtt-password ]; then
        chown root:penstock /etc/penstock/mqtt-password
        chmod 0640 /etc/penstock/mqtt-password
    fi
}

furnish_aggregator() { # keys are made with their folder, once: whoever takes one away from there is not given another
    folder 0700 $user /var/lib/penstock-aggregator
    [ ! -d /etc/penstock/aggregator ] || return 0
    install -d -m 0750 -o root -g $user /etc/penstock/aggregator
    for key in calls bundles; do
        "$environment/bin/penstock-export" keygen "/etc/penstock/aggregator/$key.pem"
        chown $user:$user "/etc/penstock/aggregator/$key.pem"
    done
}
"furnish_$role"

default_interface() {
    found=$(awk '$2 == "00000000" { print $1; exit }' /proc/net/route 2>/dev/null || true)
    for each in /sys/class/net/*; do
        name=$(basename -- "$each")
        [ -n "$found" ] || [ "$name" = lo ] || [ ! -e "$each/address" ] || found=$name
    done
    printf '%s' "${found:-eth0}"
}

if [ ! -e "$CONFIG" ] && [ "$role" = aggregator ]; then
    install -m 0640 -o root -g $user "$source/deploy/aggregator.toml" "$CONFIG"
    say "new settings $CONFIG: put [fleet] name, [broker] url and [windows] right"
elif [ ! -e "$CONFIG" ]; then
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
is() { [ $is_booted = yes ] && systemctl --quiet "is-$1" $unit 2>/dev/null; } # active, enabled
was_active=no serves=no code=0
if is active; then was_active=yes; fi
case $role in
gateway)
    [ -z "$before" ] || serves=yes
    "$environment/bin/penstock" check-config "$CONFIG" || code=$BAD_CONFIG ;;
aggregator) # by itself it goes on to the user whom the state belongs to: what root may read says nothing
    if [ -n "$before" ] && { is active || is enabled; }; then serves=yes; fi
    "$environment/bin/penstock-aggregator" doctor --offline --config "$CONFIG" || code=$BAD_CONFIG ;;
esac
if [ $code != 0 ] && [ $serves = yes ]; then
    bring_back
    end $code "the new version cannot work with $CONFIG (see above): the one before stays"
fi

units="penstock.service penstock-tensorrt.service penstock-offloads@.service penstock-finetune.service
    penstock-finetune.timer penstock-finetune.path"
[ "$role" = gateway ] || units=$unit
hold "$UNITS/penstock.service.d"
hold "$COMMAND"
for each in $units; do
    hold "$UNITS/$each"
    put "$source/systemd/$each" "$UNITS/$each"
done
drop_in() { put "$source/systemd/penstock.service.d/$1.conf" "$UNITS/penstock.service.d/10-$1.conf"; }
has_tensorrt=no
take_drop_ins() { # those that this gateway needs
    rm -rf -- "$UNITS/penstock.service.d"
    if [ "$systemd_version" -gt 0 ] && [ "$systemd_version" -lt 247 ]; then drop_in old-systemd; fi
    board=$(tr -d '\000' 2>/dev/null </proc/device-tree/model || true)
    case $board in *Orin*) ;; *"Jetson Nano"*) drop_in jetson-nano ;; esac
    if [ -f /etc/nv_tegra_release ] && /usr/bin/python3 -c 'import tensorrt' 2>/dev/null; then
        has_tensorrt=yes
        drop_in tensorrt
    fi
}
[ "$role" = aggregator ] || take_drop_ins

# --- the new version takes over --------------------------------------------------------------------------------------

point() { # atomically: the link is never absent
    ln -sfn -- "$1" "$HOME_DIR/.current.new"
    mv -T -- "$HOME_DIR/.current.new" "$HOME_DIR/current"
}
point "$(basename -- "$environment")"
mkdir -p "$(dirname -- "$COMMAND")"
ln -sfn "$HOME_DIR/current/bin/$(basename -- "$COMMAND")" "$COMMAND"
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
        again=penstock-offloads@$(systemd-escape "$name" 2>/dev/null || printf '%s' "$name").service
        if has systemctl; then
            systemctl enable --quiet "$again" || say "$again cannot be enabled; after a start: $line"
        fi
        say "offloads of $name are off ($line)"
    elif [ "$offloads" = ask ]; then
        say "for whole packets: $line (or install with --offloads off)"
    fi
}
[ "$role" = aggregator ] || tell_offloads

learns() { # federation is on: what learns on this gateway is started once a day, and when the agent asks
    [ "$role" = gateway ] || return 1
    "$HOME_DIR/current/bin/penstock" check-config "$CONFIG" --json 2>/dev/null | "$HOME_DIR/current/bin/python" -c \
        'import json, sys; sys.exit(not json.load(sys.stdin).get("config", {}).get("federation", {}).get("enabled"))'
}

enable_units() { # not before it is known which version serves: what is enabled is not taken back
    [ $has_tensorrt = no ] || systemctl enable --quiet penstock-tensorrt.service
    systemctl enable --quiet $unit
    learns || return 0
    systemctl enable --quiet penstock-finetune.timer penstock-finetune.path
    [ $is_booted = no ] || systemctl start penstock-finetune.timer penstock-finetune.path || true
}

if ! has systemctl; then
    rights=' with CAP_NET_RAW'
    [ "$role" = gateway ] || rights=''
    say "no systemd here: start it as $user$rights: $COMMAND run --config $CONFIG"
elif [ $starts = yes ] && [ $code = 0 ]; then
    [ $is_booted = no ] || systemctl daemon-reload
    if [ $is_booted = no ]; then
        enable_units
        say "enabled; systemd is not running here, so it starts with the machine"
    elif systemctl restart $unit; then
        enable_units
        say "the service is active: systemctl status $user, $user status, $user doctor"
    elif [ -n "$before" ] && [ $was_active = yes ]; then
        point "$before"
        new=$HOME_DIR/$before
        bring_back
        systemctl daemon-reload
        systemctl restart $unit || true
        forget_others
        end $FAILED "the new version does not start (journalctl -u $user); the one before serves again"
    else
        enable_units
        end $FAILED "the service does not start: journalctl -u $user; $user doctor"
    fi
elif [ $is_booted = yes ]; then
    systemctl daemon-reload
fi
forget_others
case $role-$code in
*-0) ;;
gateway-*) end $code "installed, but the configuration does not hold: see above, then penstock check-config" ;;
*)
    ! is enabled || end $code "installed, but not started: see above, then $user doctor"
    say "not started: complete what is said above, then sudo $user doctor, then sudo systemctl enable --now $user" ;;
esac
version=$("$HOME_DIR/current/bin/penstock" --version)
say "installed: $version; remove it with $HOME_DIR/current/share/penstock/uninstall.sh"

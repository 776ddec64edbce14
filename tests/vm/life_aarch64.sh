# The life of the arm64 package where qemu-user runs it: installed, tested, its demo compared, removed, purged.
. /mnt/guest.sh
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
note install
same "processor" aarch64 "$(uname -m)"
dpkg --force-depends --force-script-chrootless -i /mnt/this.deb && code=0 || code=$?
same "dpkg -i" 0 "$code"
row "version" "$(penstock --version >/dev/null && echo ok || echo BAD)" "$(penstock --version)"
same "the core's files" "all aarch64" \
    "$(find /opt/penstock/ -name '*.cpython-*.so' -path '*flowfeatures*' | grep -vc aarch64 | sed 's/^0$/all aarch64/')"
same "configuration" "0640 root:penstock" "0$(stat -c '%a %U:%G' /etc/penstock/agent.toml)"
note demo
cd /tmp && penstock demo --eve /tmp/eve.json >/tmp/demo.txt 2>&1 && code=0 || code=$?
same "penstock demo" "0, 3 found" "$code, $(grep -c '^ *found ' /tmp/demo.txt) found"
if [ -e /mnt/expected.json ]; then
    same "its eve.json and that of x86-64" "the same octets" \
        "$(cmp -s /tmp/eve.json /mnt/expected.json && echo the same octets || echo "$(diff /tmp/eve.json /mnt/expected.json | grep -c '^<') of $(wc -l </tmp/eve.json) lines differ")"
fi
note tests
mkdir -p /tmp/site
for wheel in /mnt/test-wheels/*.whl; do python3 -c "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall('/tmp/site')" "$wheel"; done
cd /mnt && PYTHONPATH=/tmp/site timeout 2400 /opt/penstock/current/bin/python -m pytest --hypothesis-profile=ci -m "not needs_root and not needs_torch and not slow" "$@" >/tmp/tests.txt 2>&1 && code=0 || code=$?
tail -n 15 /tmp/tests.txt
row "tests" "$([ "$code" = 0 ] && echo ok || echo BAD)" "$(tail -n 1 /tmp/tests.txt | sed 's/ in .*//'): $(echo "$*" | sed 's#tests/##g')"
note remove
dpkg --force-depends -P penstock && code=0 || code=$?
same "dpkg -P leaves" "0: nothing" "$code: $(names_left | one_line | grep . || echo nothing)"
note end

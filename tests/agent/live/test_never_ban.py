"""Whom no alert may ask to ban, out of the files of a made-up machine."""

from __future__ import annotations

from agent.live.never_ban import own_infrastructure

ROUTE = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask	MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
"""
ROUTE6 = (
    "0" * 32 + " 00 " + "0" * 32 + " 00 fe80000000000000021122fffe334455 00000400 00000001 00000000 00000003 eth0\n"
)


def machine(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_default_routes_of_both_families_are_found_and_other_routes_are_not(tmp_path):
    root = machine(tmp_path, proc__net__route=ROUTE, proc__net__ipv6_route=ROUTE6)

    assert own_infrastructure(root) == ("192.168.1.1", "fe80::211:22ff:fe33:4455")


def test_resolvers_behind_a_local_stub_are_found(tmp_path):
    root = machine(
        tmp_path,
        etc__resolv_DOT_conf="nameserver 127.0.0.53\noptions edns0\n",
        run__systemd__resolve__resolv_DOT_conf="nameserver 9.9.9.9\nnameserver fe80::1%eth0\n",
    )

    assert own_infrastructure(root) == ("9.9.9.9", "fe80::1")


def test_time_servers_given_as_addresses_are_found(tmp_path):
    root = machine(
        tmp_path,
        etc__chrony__chrony_DOT_conf="pool ntp.example.org iburst\nserver 192.0.2.7 iburst\n",
        etc__systemd__timesyncd_DOT_conf="[Time]\nNTP=192.0.2.8 time.example.org\n#NTP=192.0.2.9\n",
    )

    assert own_infrastructure(root) == ("192.0.2.7", "192.0.2.8")


def test_a_machine_that_says_nothing_or_nonsense_names_nobody(tmp_path):
    root = machine(
        tmp_path, proc__net__route="x\n00000000\n" + "eth0 00000000 zz zz 0 0 0 0\n", etc__resolv_DOT_conf="\0"
    )

    assert own_infrastructure(root) == ()
    assert own_infrastructure(tmp_path / "none") == ()


def test_a_file_full_of_addresses_is_bounded(tmp_path):
    root = machine(
        tmp_path, etc__resolv_DOT_conf="".join(f"nameserver 10.0.{n // 256}.{n % 256}\n" for n in range(5000))
    )

    assert len(own_infrastructure(root)) == 64

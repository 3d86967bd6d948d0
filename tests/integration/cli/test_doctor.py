"""`mosaic doctor` on a machine on which something was broken for real: it finds it, and its repair repairs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mosaic_cli.context import Context, Contexts, save
from mosaic_framework import pki
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home, private_folder, write_private

from tests.support.doctor import doctor
from tests.support.other_user import as_user, missing

DOMAIN = "abcdefgh23456777.mosaic"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of its own needs root")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("run", "tmux"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path / "tmux"))
    return Home(private_folder(tmp_path / "home"))


def log_in(home: Home, identity: StoredIdentity, *addresses: str) -> None:
    identity.save(home.pki / "operators" / "far")
    save(home, Contexts().put(Context("far", addresses, "pki/operators/far"), make_current=True))


def identity(*, lifetime: timedelta = timedelta(days=1)) -> StoredIdentity:
    authority, key = pki.Authority.create(DOMAIN), pki.new_key()
    who = pki.SpiffeId(DOMAIN, "operator", "anna", tenant="default")
    leaf = authority.issue(key.public_key(), who, identity_id="1", identity_epoch=1, lifetime=lifetime)
    return StoredIdentity(
        kind="operator",
        name="anna",
        tenant="default",
        identity_id="1",
        identity_epoch=1,
        spiffe_id=str(who),
        trust_domain=DOMAIN,
        cluster="far",
        fleet_addresses=["127.0.0.1:1"],
        not_after=leaf.not_valid_after_utc,
        key_pem=pki.key_to_pem(key),
        certificate_pem=pki.certificate_to_pem(leaf),
        bundle_pem=pki.certificate_to_pem(authority.certificate),
    )


def test_a_new_machine_is_well_and_told_what_could_not_be_looked_at(home: Home) -> None:
    found = doctor(home.root)
    assert (found.code, found.document["wrong"], found.document["unchecked"]) == (0, 0, 2)
    assert found.levels("clock") == found.levels("versions") == {"unchecked"}
    assert "mosaic up" in found.bad("cluster")["repair"]


def test_without_its_control_plane_it_says_what_it_could_not_look_at(home: Home) -> None:
    log_in(home, identity(), "127.0.0.1:1")
    found = doctor(home.root)
    assert found.code == 1
    assert "nothing answers at 127.0.0.1:1 (context far)" in found.bad("addresses")["text"]
    assert "mosaic doctor" not in found.bad("cluster")["repair"]
    assert found.levels("clock") == found.levels("versions") == {"unchecked"}
    assert "could not be asked" in found.bad("clock")["text"]


def test_an_expired_certificate_is_told_with_whose_it_is_and_since_when(home: Home) -> None:
    log_in(home, identity(lifetime=timedelta(minutes=-5)), "127.0.0.1:1")
    found = doctor(home.root).bad("certificates")
    assert (found["level"], found["repair"]) == ("wrong", "mosaic login")
    assert f"context far (spiffe://{DOMAIN}/tenant/default/operator/anna): expired 5m ago" in found["text"]


@pytest.mark.parametrize("which", ["bundle", "key"])
def test_a_certificate_of_another_authority_or_key_is_told(home: Home, which: str) -> None:
    mine, other = identity(), identity()
    swapped = {"bundle_pem": other.bundle_pem} if which == "bundle" else {"key_pem": other.key_pem}
    log_in(home, replace(mine, **swapped), "127.0.0.1:1")  # type: ignore[arg-type]
    found = doctor(home.root).bad("certificates")
    said = "issued by none of the 1 authorities" if which == "bundle" else "not of each other"
    assert (found["level"], found["repair"], said in found["text"]) == ("wrong", "mosaic login", True)


def test_a_clock_that_is_behind_is_told_from_the_certificates_where_nobody_can_be_asked(home: Home) -> None:
    log_in(home, identity(), "127.0.0.1:1")
    late = (
        "import datetime as d, mosaic_cli.doctor.examine as e\n"
        "class Late(d.datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None): return d.datetime.now(tz) - d.timedelta(hours=2)\n"
        "e.datetime = Late\n"
    )
    found = next(item for item in doctor(home.root, before=late).of("clock") if item["level"] == "wrong")
    assert "this clock is behind" in found["text"]
    assert "timedatectl set-ntp true" in found["repair"]


def test_a_name_that_does_not_resolve_is_told_with_who_uses_it(home: Home) -> None:
    log_in(home, identity(), "controlplane.invalid:7443")
    found = [item for item in doctor(home.root).of("names") if item["level"] == "wrong"]
    assert "the name of controlplane.invalid:7443 (context far) is not known here" in found[0]["text"]
    assert "getent hosts controlplane.invalid" in found[0]["repair"]


@as_root
def test_a_machine_that_is_called_localhost_is_told(home: Home) -> None:
    found = doctor(home.root, inside=["unshare", "-u", "sh", "-c", 'hostname localhost; exec "$0" "$@"']).bad("names")
    assert (found["level"], "hostnamectl set-hostname" in found["repair"]) == ("note", True)


def test_a_control_plane_that_tells_others_to_dial_this_machine_is_told(home: Home) -> None:
    (home.root / "controlplane.yaml").write_text("listen: 0.0.0.0\n")
    facts = {
        "pid": os.getpid(),
        "enrol_address": "0.0.0.0:7440",
        "fleet_address": "0.0.0.0:7443",
        "trust_domain": DOMAIN,
    }
    write_private(home.run / "controlplane.json", json.dumps(facts).encode())
    found = doctor(home.root).bad("names")
    assert "tells others to dial 127.0.0.1:7443" in found["text"]
    assert "advertise" in found["repair"]


@pytest.mark.parametrize("which", ["the folder of sockets", "the folder of this home's sockets", "tmux's folder"])
def test_a_folder_of_sockets_that_others_can_enter_is_told_and_the_repair_closes_it(home: Home, which: str) -> None:
    root = private_folder(Path(os.environ["XDG_RUNTIME_DIR"]) / "mosaic")
    place = {
        "the folder of sockets": root,
        "the folder of this home's sockets": private_folder(root / home.digest),
        "tmux's folder": private_folder(Path(os.environ["TMUX_TMPDIR"]) / f"tmux-{os.getuid()}"),
    }[which]
    place.chmod(0o755)
    examined = doctor(home.root)
    found = examined.bad("sockets")
    assert (examined.code, found["level"], found["repair"]) == (1, "wrong", f"chmod 700 {place}")
    subprocess.run(["sh", "-c", found["repair"]], check=True)
    assert doctor(home.root).levels("sockets") == {"well"}


def test_a_key_that_others_can_read_is_told_and_the_repair_closes_it(home: Home) -> None:
    file = home.pki / "authority.key"
    write_private(file, b"00")
    file.chmod(0o644)
    found = doctor(home.root).bad("files")
    assert (found["level"], found["repair"]) == ("wrong", f"chmod go= {file}")
    subprocess.run(["sh", "-c", found["repair"]], check=True)
    assert doctor(home.root).levels("files") == {"well"}


@pytest.mark.parametrize(("said", "problem"), [("tmux 2.9a", "tmux 2.9a is too old"), ("", "tmux is not installed")])
def test_a_tmux_that_is_missing_or_too_old_is_told(home: Home, tmp_path: Path, said: str, problem: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("apt-get", "sh"):
        (programs / name).symlink_to(shutil.which(name) or "/bin/sh")
    if said:
        (programs / "tmux").write_text(f"#!/bin/sh\necho {said}\n")
        (programs / "tmux").chmod(0o755)
    found = doctor(home.root, environment={"PATH": str(programs)}).bad("tmux")
    assert (found["level"], found["text"].startswith(problem)) == ("wrong", True)
    assert found["repair"] == "sudo apt-get install tmux"


@pytest.fixture
def tmux_server(home: Home) -> Iterator[int]:
    """A tmux server in use by this home; its process."""
    name = f"t{os.getpid()}"  # with its folder it must fit the 108 bytes of a socket's path
    subprocess.run(["tmux", "-L", name, "-f", "/dev/null", "new-session", "-d", "sleep", "1000"], check=True)
    said = subprocess.run(
        ["tmux", "-L", name, "display-message", "-p", "#{pid}"], capture_output=True, text=True, check=True
    )
    rows = [{"socket_name": name, "holder": "_holder", "tmux_tmpdir": os.environ["TMUX_TMPDIR"]}]
    write_private(home.state / "tmux-servers.json", json.dumps(rows).encode())
    yield int(said.stdout)
    subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, check=False)


def test_a_tmux_server_whose_socket_is_gone_is_told_and_the_repair_brings_it_back(home: Home, tmux_server: int) -> None:
    assert doctor(home.root).levels("tmux") == {"well"}
    (socket,) = (Path(os.environ["TMUX_TMPDIR"]) / f"tmux-{os.getuid()}").iterdir()
    socket.unlink()
    found = doctor(home.root).bad("tmux")
    assert (found["level"], found["repair"].startswith(f"kill -USR1 {tmux_server} ")) == ("wrong", True)
    subprocess.run(["sh", "-c", found["repair"].partition("(")[0]], check=True)
    while not socket.exists():  # the server hears the signal in its own time
        assert datetime.now(UTC)
    assert doctor(home.root).levels("tmux") == {"well"}


@as_root
@pytest.mark.parametrize(
    ("size", "fill", "said", "repair"),
    [
        ("size=4m", "head -c 3900k /dev/zero > {home}/full || true", "journal and register stop", "du -xh"),
        ("size=2g,nr_inodes=40", "true", "inodes run out", "du --inodes"),
    ],
)
def test_a_disk_without_room_for_bytes_or_files_is_told(
    home: Home, size: str, fill: str, said: str, repair: str
) -> None:
    script = f'mount -t tmpfs -o mode=700,{size} tmpfs {home.root}; {fill.format(home=home.root)}; exec "$0" "$@"'
    examined = doctor(home.root, inside=["unshare", "-m", "sh", "-c", script])
    found = next(item for item in examined.of("disk") if said in item["text"])
    assert (examined.code, found["level"]) == (1, "wrong")
    assert found["repair"].startswith(repair)


def test_proxy_variables_are_named_and_their_values_are_not(home: Home) -> None:
    found = doctor(home.root, environment={"HTTPS_PROXY": "http://anna:secret@proxy.invalid:3128"}).bad("proxies")
    assert (found["level"], found["repair"]) == ("note", "where that is not wanted: unset HTTPS_PROXY")
    assert "secret" not in json.dumps(found)


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_user_without_an_account_is_told_by_number_as_containers_may_have() -> None:
    machine, uid = Path(tempfile.mkdtemp(dir="/tmp")), 64_103
    try:
        os.chown(machine, uid, uid)
        places = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "TMUX_TMPDIR"), str(machine))
        nameless = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
        found = doctor(machine / "home", inside=as_user(uid), environment={**places, **nameless, "TMPDIR": "/tmp"})
    finally:
        shutil.rmtree(machine)
    assert found.of("sockets")[0]["text"] == f"only {uid} and root can write to panes here"
    assert found.levels("linger") == {"note"}


def test_a_damaged_list_of_tmux_servers_hides_no_other_check(home: Home) -> None:
    write_private(private_folder(home.state) / "tmux-servers.json", b"5")
    found = doctor(home.root)
    assert (found.code, found.levels("sockets"), found.levels("tmux")) == (0, {"well"}, {"well"})


def test_a_check_that_breaks_is_told_and_stops_no_other(home: Home) -> None:
    broken = "import mosaic_cli.doctor.proxies as p\ndef judge(_): raise KeyError('gone')\np.judge = judge\n"
    found = doctor(home.root, before=broken)
    assert found.bad("proxies")["text"] == "a fault inside mosaic: KeyError: 'gone'"
    assert found.levels("disk") == {"well"}


def test_a_home_that_is_a_file_is_told(tmp_path: Path, home: Home) -> None:
    (tmp_path / "file").write_text("")
    found = next(item for item in doctor(tmp_path / "file").of("files") if item["level"] == "wrong")
    assert "is a file: the home must be a folder" in found["text"]

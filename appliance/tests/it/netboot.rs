//! `elisandra netboot` as a process, on a cable in network namespaces, with the clients that people have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::namespace::{Machine, cable, inside, run};
use tempfile::TempDir;

const MAC: &str = "52:54:00:aa:bb:01";

/// A folder with profiles, the lease file, and the terminal.
struct Site {
    folder: TempDir,
    /// What the process is started by: in which namespaces.
    inside: Vec<String>,
}

struct Netboot {
    process: Child,
    log: std::path::PathBuf,
}

impl Site {
    /// `lan0` is 10.0.0.1/24.
    fn new() -> Site {
        run("ip addr add 10.0.0.1/24 dev lan0");
        Site::with(Vec::new())
    }

    /// For clients that are sockets of the test itself: `lan0` is 10.0.0.1/8 in a namespace of its own.
    fn beside(server: &Machine) -> Site {
        server.run("ip addr add 10.0.0.1/8 dev lan0");
        run("ip addr add 10.0.0.2/8 dev eth0");
        Site::with(["nsenter", "-t", &server.id().to_string(), "-n", "--"].map(str::to_owned).into())
    }

    fn with(inside: Vec<String>) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let site = Site { folder, inside };
        for name in ["boot/debian", "loaders"] {
            fs::create_dir_all(site.path(name)).unwrap();
        }
        for (name, text) in [
            ("boot/debian/linux", "a kernel"),
            ("boot/debian/initrd.gz", "an initrd"),
            ("loaders/undionly.kpxe", "a loader for BIOS"),
            ("loaders/shimx64.efi", "a loader for UEFI"),
            ("loaders/grubnetx64.efi", "GRUB"),
        ] {
            site.write(name, text);
        }
        site.write(
            "boot/default.toml",
            "title = \"Debian 13 installer\"\nkernel = \"debian/linux\"\ninitrds = [\"debian/initrd.gz\"]\n\
             command_line = \"auto=true url=http://{server}/boot/files/preseed.cfg\"\n",
        );
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, words: &str) -> Command {
        let mut program = self.inside.clone();
        program.push(env!("CARGO_BIN_EXE_elisandra").to_owned());
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]);
        command.arg("netboot").arg("--loaders").arg(self.path("loaders"));
        if !words.contains("--interface") {
            command.args(["--interface", "lan0"]);
        }
        if !words.contains("--leases") {
            command.arg("--leases").arg(self.path("leases"));
        }
        command.args(words.split_whitespace()).arg(self.path("boot")).stdin(Stdio::null());
        command
    }

    fn start(&self, words: &str) -> Netboot {
        let log = self.path("terminal");
        let out = File::create(&log).unwrap();
        let process = self.command(words).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let netboot = Netboot { process, log };
        netboot.until("Serving ");
        // The sockets are opened a moment later.
        let begun = Instant::now();
        let sockets = format!("/proc/{}/net/udp", netboot.process.id());
        while !fs::read_to_string(&sockets).unwrap().contains(":0043 ") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", netboot.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        netboot
    }
}

impl Netboot {
    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line with these words, and returns it.
    #[track_caller]
    fn until(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if let Some(line) = text.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no {words:?} in:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.text());
    }
}

impl Drop for Netboot {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs udhcpc, which sets the machine's address, and returns what it was told.
fn udhcpc(machine: &Machine, arguments: &str) -> Option<BTreeMap<String, String>> {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    let told = folder.path().join("told");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev eth0\nip addr add $ip/$mask dev eth0\nenv > {}\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    machine.output(&format!("busybox udhcpc -i eth0 -f -n -q -t 4 -T 2 -s {} {arguments}", script.display()));
    let told = fs::read_to_string(told).ok()?;
    Some(
        told.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect(),
    )
}

fn curl(machine: &Machine, path: &str) -> String {
    let output = machine.output(&format!("curl -s --max-time 20 http://10.0.0.1{path}"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_machine_boots_from_a_folder() {
    inside("netboot::a_machine_boots_from_a_folder", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let site = Site::new();
        let netboot = site.start("--listen-secs 1 --router 10.0.0.1 --dns 10.0.0.53,10.0.0.54 --domain lab");
        let serving = netboot.until("Serving DHCP on lan0, 10.0.0.1/24");
        assert!(serving.contains("as nobody else does: addresses 10.0.0.1-10.0.0.254"), "{serving}");
        netboot.until("default: Debian 13 installer for every other machine");

        let told = udhcpc(&machine, "-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007").unwrap();
        let told = |name: &str| told.get(name).map(String::as_str);
        // Neither its own, nor the router's or a name server's.
        assert_eq!(
            [told("ip"), told("router"), told("dns"), told("domain"), told("boot_file")],
            [
                Some("10.0.0.2"),
                Some("10.0.0.1"),
                Some("10.0.0.53 10.0.0.54"),
                Some("lab"),
                Some("shimx64.efi")
            ]
        );
        assert!(
            netboot
                .until("offered")
                .ends_with("52:54:00:aa:bb:01  UEFI firmware  offered 10.0.0.2, shimx64.efi")
        );
        netboot.until("52:54:00:aa:bb:01  UEFI firmware  leased 10.0.0.2, shimx64.efi");

        let into = site.path("fetched");
        let tftp = machine
            .output(&format!("curl -s --max-time 20 -o {} tftp://10.0.0.1/shimx64.efi", into.display()));
        assert!(tftp.status.success(), "{}", netboot.text());
        assert_eq!(fs::read_to_string(&into).unwrap(), "a loader for UEFI");
        netboot.until("52:54:00:aa:bb:01  TFTP shimx64.efi: 17 bytes");
        let script = curl(&machine, "/boot/52-54-00-aa-bb-01/script.ipxe");
        assert!(script.contains("http://10.0.0.1/boot/files/debian/linux"), "{script}");
        assert!(script.contains("auto=true url=http://10.0.0.1/boot/files/preseed.cfg"), "{script}");
        assert_eq!(curl(&machine, "/boot/files/debian/linux"), "a kernel");
        netboot.until("52:54:00:aa:bb:01  HTTP debian/linux: 8 bytes");

        // A profile of its own, by what firmware said in its DHCP packets.
        site.write("boot/uefi.toml", "efi = \"debian/linux\"\n[match]\narch = \"uefi\"\n");
        netboot.until("uefi: uefi for every uefi machine");
        let script = curl(&machine, "/boot/52-54-00-aa-bb-01/grub.cfg");
        assert!(script.contains("chainloader"), "{script}");
        // A broken one stays as it was.
        site.write("boot/uefi.toml", "efi = \"debian/linux\"\nmac = \"52:54:00:aa:bb:01\"\n");
        let line = netboot.until("uefi.toml, line 2: unknown field `mac`");
        assert!(line.contains("what was good before stays"), "{line}");
        assert_eq!(curl(&machine, "/boot/52-54-00-aa-bb-01/grub.cfg"), script);
        fs::remove_file(site.path("boot/uefi.toml")).unwrap();
        site.write("boot/mine.toml", "boot = \"disk\"\n[match]\nmac = \"52:54:00:aa:bb:01\"\n");
        netboot.until("mine: the machine's own disk for 52:54:00:aa:bb:01");
        assert!(curl(&machine, "/boot/52-54-00-aa-bb-01/script.ipxe").contains("sanboot"));
        netboot.end();

        // Another run, other addresses to give: this machine's is its own.
        let netboot = site.start("--listen-secs 0 --range 10.0.0.2-10.0.0.99");
        netboot.until("1 machines are known");
        assert_eq!(udhcpc(&machine, "-r 10.0.0.77").unwrap()["ip"], "10.0.0.2");
        netboot.end();
    });
}

#[test]
fn beside_another_dhcp_server_it_gives_no_address() {
    inside("netboot::beside_another_dhcp_server_it_gives_no_address", async || {
        cable(MAC);
        // Its own NIC on a bridge, as on a switch.
        for command in [
            "ip link add switch type bridge",
            "ip link set switch up",
            "ip link set lan0 master switch",
            "ip link add port type veth peer name far",
            "ip link set port master switch",
            "ip link set port up",
        ] {
            run(command);
        }
        let machine = Machine::take_eth0();
        let other = with("far");
        other.run("ip addr add 10.0.0.254/24 dev far");
        let folder = tempfile::tempdir().unwrap();
        let dnsmasq = Command::new("nsenter")
            .args(["-t", &other.id().to_string(), "-n", "dnsmasq", "-k", "-C", "/dev/null", "--port=0"])
            .args(["--interface=far", "--bind-interfaces", "--no-ping", "--user=root", "--log-facility=-"])
            .arg("--dhcp-range=10.0.0.200,10.0.0.250,255.255.255.0,12h")
            .arg(format!("--dhcp-leasefile={}", folder.path().join("leases").display()))
            .arg(format!("--pid-file={}", folder.path().join("pid").display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq comes with Debian's package dnsmasq-base");
        let _dnsmasq = Ended(dnsmasq);

        let site = Site::new();
        run("ip addr flush dev lan0");
        run("ip addr add 10.0.0.1/24 dev switch");
        let netboot = site.start("--listen-secs 20 --interface switch");
        let line = netboot.until("ProxyDHCP");
        assert!(line.contains("as the DHCP server 10.0.0.254 ("), "{line}");
        assert_eq!(udhcpc(&machine, "").unwrap()["serverid"], "10.0.0.254");
        // udhcpc knows nothing of ProxyDHCP and may take its offer for one of no address; firmware does not.
        udhcpc(&machine, "-V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000");
        netboot.until("52:54:00:aa:bb:01  BIOS firmware  boot information, undionly.kpxe");
        assert!(!site.path("leases").exists(), "it gives no address, so there is nothing to write down");
        netboot.end();
    });
}

/// A machine with this interface.
fn with(interface: &str) -> Machine {
    let machine = Machine::empty();
    machine.take(interface);
    machine
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    inside("netboot::what_cannot_be_served_is_said_at_once", async || {
        cable(MAC);
        let site = Site::new();
        let said = |words: &str| {
            let output = site.command(words).output().unwrap();
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let has = |text: String, words: &str| assert!(text.contains(words), "{text}");
        has(said("--interface nowhere0"), "there is no interface nowhere0; there is: ");
        has(
            said("--range 10.1.0.5-10.1.0.9"),
            "10.1.0.5-10.1.0.9 is not on the network of lan0, which is 10.0.0.1/24",
        );
        has(
            said("--default debian"),
            "there is no profile debian.toml for --default debian; there is: default",
        );
        has(said("--listen-secs 0 --leases /proc/version"), "/proc/version");
        site.write("boot/a.toml", "kernal = \"debian/linux\"\n");
        site.write("boot/b.toml", "title = \"b\"\n\nkernel = \"debian/vmlinuz\"\n");
        let text = said("");
        has(text.clone(), "a.toml, line 1: unknown field `kernal`, expected one of `title`, `kernel`");
        has(text, "b.toml, line 3: there is no file debian/vmlinuz in ");
        run("ip addr flush dev lan0");
        has(said(""), "lan0 has no IPv4 address; give it one first: ip addr add 10.77.0.1/24 dev lan0");
        run("ip link set lan0 down");
        has(said(""), "lan0 is down; switch it on first: ip link set lan0 up");
    });
}

/// A relay before machines, each with a MAC address of its own.
struct Relay {
    socket: UdpSocket,
}

impl Relay {
    fn new() -> Relay {
        let socket = UdpSocket::bind("10.0.0.2:67").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Relay { socket }
    }

    fn send(&self, number: u32, requested: Option<Ipv4Addr>) {
        // A server that was killed is what some tests are about.
        let _ = self.socket.send_to(&packet(number, requested), "10.0.0.1:67");
    }

    /// Number of the machine, message type, address.
    fn receive(&self) -> Option<(u32, u8, Ipv4Addr)> {
        let mut buffer = [0; 1500];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        let packet = &buffer[..length];
        let number = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let address = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap());
        // Our server writes option 53 first.
        assert_eq!(packet[240..242], [53, 1]);
        Some((number, packet[242], address))
    }

    /// One machine after the other, with one answer awaited at a time.
    fn lease(&self, number: u32) -> Option<Ipv4Addr> {
        let mut wanted = None;
        let begun = Instant::now();
        self.send(number, None);
        while begun.elapsed() < Duration::from_secs(2) {
            match self.receive() {
                Some((of, 2, address)) if of == number && wanted.is_none() => {
                    wanted = Some(address);
                    self.send(number, wanted);
                }
                Some((of, 5, address)) if of == number => return Some(address),
                _ => {}
            }
        }
        None
    }

    /// Machines without end, fifty at a time, until it has been told to stop. Returns who was told of which address.
    fn storm(&self, first: u32, stop: &AtomicBool) -> BTreeMap<u32, Ipv4Addr> {
        let mut acknowledged = BTreeMap::new();
        let (mut next, mut under_way) = (first, 0);
        while !stop.load(Ordering::Relaxed) {
            while under_way < 50 {
                self.send(next, None);
                next += 1;
                under_way += 1;
            }
            match self.receive() {
                Some((number, 2, address)) => self.send(number, Some(address)),
                Some((number, 5, address)) => {
                    acknowledged.insert(number, address);
                    under_way -= 1;
                }
                Some((number, kind, _)) => panic!("message type {kind} for {number}"),
                None => under_way = 0,
            }
        }
        acknowledged
    }
}

fn packet(number: u32, requested: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[24..28].copy_from_slice(&[10, 0, 0, 2]);
    packet[28..30].copy_from_slice(&[2, 0]);
    packet[30..34].copy_from_slice(&number.to_be_bytes());
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    match requested {
        None => packet.extend([53, 1, 1]),
        Some(address) => {
            packet.extend([53, 1, 3, 50, 4]);
            packet.extend(address.octets());
            packet.extend([54, 4, 10, 0, 0, 1]);
        }
    }
    packet.push(255);
    packet
}

#[test]
fn every_acknowledged_lease_is_there_after_a_kill() {
    inside("netboot::every_acknowledged_lease_is_there_after_a_kill", async || {
        cable(MAC);
        let server = with("lan0");
        let site = Site::beside(&server);
        let relay = Relay::new();
        let mut acknowledged: BTreeMap<u32, Ipv4Addr> = BTreeMap::new();
        for turn in 0..4 {
            let mut netboot = site.start("--listen-secs 0 --range 10.1.0.0-10.9.255.255");
            let stop = AtomicBool::new(false);
            // Half of the machines are those of the turn before.
            let told = std::thread::scope(|scope| {
                let told = scope.spawn(|| relay.storm(turn * 200, &stop));
                std::thread::sleep(Duration::from_millis(700 + 150 * u64::from(turn)));
                // SIGKILL, in the middle of its writing.
                netboot.process.kill().unwrap();
                netboot.process.wait().unwrap();
                stop.store(true, Ordering::Relaxed);
                told.join().unwrap()
            });
            assert!(told.len() > 20, "{} acknowledged\n{}", told.len(), netboot.text());
            for (number, address) in told {
                let before = acknowledged.insert(number, address);
                assert!(
                    before.is_none_or(|before| before == address),
                    "{number} had {before:?}, then {address}"
                );
            }
            let leases = leases(&site.path("leases"));
            for (number, address) in &acknowledged {
                assert_eq!(leases.get(number), Some(address), "of {number}, in turn {turn}");
            }
        }
        let different: BTreeSet<_> = acknowledged.values().collect();
        assert_eq!(different.len(), acknowledged.len(), "an address was given twice");
    });
}

/// The lease file's whole lines, the last of each machine.
fn leases(path: &Path) -> BTreeMap<u32, Ipv4Addr> {
    let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
    let (whole, _torn) = text.rsplit_once('\n').unwrap();
    let mut leases = BTreeMap::new();
    for line in whole.lines().skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        let mac: pxe::MacAddr = words[1].parse().unwrap();
        leases.insert(u32::from_be_bytes(mac.0[2..].try_into().unwrap()), words[0].parse().unwrap());
    }
    leases
}

#[test]
fn a_full_disk_keeps_new_machines_waiting_and_no_other() {
    inside("netboot::a_full_disk_keeps_new_machines_waiting_and_no_other", async || {
        cable(MAC);
        let server = with("lan0");
        let mut site = Site::beside(&server);
        let disk = site.path("disk");
        fs::create_dir(&disk).unwrap();
        // A disk that only this process sees, so that nothing is left of it.
        let mount = format!("mount -t tmpfs -o size=64k tmpfs {} && exec \"$@\"", disk.display());
        site.inside.extend(["unshare", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned));
        let netboot =
            site.start(&format!("--listen-secs 0 --lease-secs 120 --leases {}/leases", disk.display()));
        let relay = Relay::new();
        let own = relay.lease(0).unwrap();

        let seen = format!("/proc/{}/root{}", netboot.process.id(), disk.display());
        let filler = Path::new(&seen).join("filler");
        let full = fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        // The last page of the lease file has room still; machines fill it.
        let refused = (1..200).find(|number| relay.lease(*number).is_none());
        let refused = refused.unwrap_or_else(|| panic!("{}", netboot.text()));
        netboot.until("leases is full: no new machine gets an address");
        assert_eq!(relay.lease(0), Some(own), "who is known goes on");
        assert_eq!(relay.lease(1).is_some(), refused > 1);
        fs::remove_file(&filler).unwrap();
        assert!(relay.lease(refused).is_some(), "{}", netboot.text());
        netboot.until("can be written again");
        let text = fs::read_to_string(Path::new(&seen).join("leases")).unwrap();
        assert_eq!(text.lines().count() as u32, refused + 2, "whole lines only:\n{text}");
        netboot.end();
    });
}

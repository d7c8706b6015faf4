//! The clients of real systems, each in a network of its own: what they make of our answers.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::packet;
use pxe::{MacAddr, NoteKind};
use tempfile::TempDir;

use crate::appliance::{Appliance, udhcpc};
use crate::namespace::{Machine, Process, cable, figures, inside, run, switch};

const MAC: &str = "52:54:00:aa:bb:01";

/// A script that writes down what a client was told, and gives the interface its address as the system's own would.
fn hook(folder: &Path) -> String {
    let path = folder.join("hook");
    let told = folder.join("told").display().to_string();
    fs::write(
        &path,
        format!(
            "#!/bin/sh\ncase $reason in\nBOUND|RENEW|REBIND|REBOOT|INFORM) env >> {told} ;;\nesac\n\
             if [ \"$reason\" = BOUND ]; then\nip addr flush dev $interface\n\
             ip addr add $new_ip_address/16 dev $interface\nip route add default via $new_routers\nfi\nexit 0\n"
        ),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// What the hook wrote down last.
fn told(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join("told")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Runs `text` as a script of a machine, with state folders of its own, so that no lease of another life is found.
fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("run");
    let own = "mount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /var/lib/dhcpcd 2>/dev/null\n";
    fs::write(&path, format!("#!/bin/sh\n{own}{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // With processes of their own, so that all of them end with the first.
    format!("unshare --mount --pid --fork --kill-child {}", path.display())
}

/// ISC's client, for as long as what is returned lives. `once` ends it with its first lease.
fn dhclient(machine: &Machine, folder: &Path) -> Process {
    let at = folder.display();
    fs::write(folder.join("dhclient.conf"), "send host-name \"anybody\";\n").unwrap();
    let hook = hook(folder);
    let command =
        format!("exec dhclient -4 -d -v -sf {hook} -cf {at}/dhclient.conf -lf {at}/leases -pf {at}/pid eth0");
    machine.start(&script(folder, &format!("{command} > {at}/log 2>&1")))
}

/// Waits until something is the case.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(40), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn leased(appliance: &Appliance, words: &str) -> usize {
    let notes = appliance.book.notes();
    notes.iter().map(|note| note.step.to_string()).filter(|line| line.contains(words)).count()
}

#[test]
fn every_client_of_a_machine_has_its_one_address() {
    inside("clients::every_client_of_a_machine_has_its_one_address", async || {
        cable(MAC);
        let machine = Arc::new(Machine::take_eth0());
        let appliance = Appliance::start();
        // Firmware, then iPXE (their classes and client ids), then three systems.
        for stage in [
            "-V PXEClient:Arch:00007:UNDI:003016 -x 0x3d:00112233445566778899aabbccddeeff00",
            "-V PXEClient:Arch:00000:UNDI:002001 -x 0x4d:69505845 -C",
        ] {
            let told = udhcpc(&machine, stage).await.unwrap();
            assert_eq!(told.get("ip").map(String::as_str), Some("10.77.1.0"), "{stage}");
        }

        let folder = TempDir::new().unwrap();
        let client = dhclient(&machine, folder.path());
        until("dhclient is bound", || told(folder.path()).contains_key("new_ip_address")).await;
        drop(client);
        let by_dhclient = told(folder.path());
        assert_eq!(by_dhclient["new_ip_address"], "10.77.1.0");
        assert_eq!(by_dhclient["new_domain_name"], "elisandra");

        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("conf"), "option ntp_servers\noption classless_static_routes\n")
            .unwrap();
        let at = folder.path().display().to_string();
        let command = format!("exec dhcpcd -4 -1 -B --noarp -f {at}/conf -c {} eth0", hook(folder.path()));
        let run_dhcpcd = script(folder.path(), &command);
        let dhcpcd = machine.start(&run_dhcpcd);
        until("dhcpcd is bound", || told(folder.path()).contains_key("new_ip_address")).await;
        drop(dhcpcd);
        assert_eq!(told(folder.path())["new_ip_address"], "10.77.1.0");

        // networkd wants to see no udev behind /sys; it says RELEASE when it ends.
        let folder = TempDir::new().unwrap();
        let before = leased(&appliance, "leased 10.77.1.0");
        let network =
            "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n";
        let text = format!(
            "mount -t sysfs -o ro sysfs /sys\nmkdir -p /run/systemd/network\n\
             printf '{network}' > /run/systemd/network/eth0.network\n\
             exec timeout 30 /lib/systemd/systemd-networkd > {}/log 2>&1",
            folder.path().display()
        );
        let networkd = machine.start(&script(folder.path(), &text));
        until("networkd has its lease", || leased(&appliance, "leased 10.77.1.0") > before).await;
        drop(networkd);
        assert_eq!(leased(&appliance, "refused"), 0);
        let mac: MacAddr = MAC.parse().unwrap();
        assert!(appliance.book.committed().iter().all(|committed| *committed == mac));
        appliance.end().await;
    });
}

#[test]
fn a_lease_is_renewed_by_unicast_and_found_again_after_a_restart() {
    inside("clients::a_lease_is_renewed_by_unicast_and_found_again_after_a_restart", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let appliance = Appliance::start();
        appliance.book.lease_secs.store(8, Ordering::Relaxed);
        let folder = TempDir::new().unwrap();
        let client = dhclient(&machine, folder.path());
        until("a renewal", || leased(&appliance, "leased 10.77.1.0") >= 2).await;
        // Its log is behind our notes by a write, and not there at first.
        let log = |folder: &TempDir| fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        until("its own word", || log(&folder).matches("bound to 10.77.1.0").count() >= 2).await;
        drop(client);
        let log_of_renewal = log(&folder);
        assert!(
            log_of_renewal.contains("DHCPREQUEST for 10.77.1.0 on eth0 to 10.77.0.1 port 67"),
            "{log_of_renewal}"
        );
        assert_eq!(
            log_of_renewal.matches("DHCPACK of 10.77.1.0 from 10.77.0.1").count(),
            2,
            "{log_of_renewal}"
        );
        assert_eq!(leased(&appliance, "DISCOVER"), 1);

        // A lease that is good for long. dhclient keeps in its file the first lease of a run, and of later ones only
        // what comes 15 s after the one before, so this is a run of its own.
        appliance.book.lease_secs.store(3600, Ordering::Relaxed);
        let folder = TempDir::new().unwrap();
        let client = dhclient(&machine, folder.path());
        until("the lease in its file", || log(&folder).contains("bound to 10.77.1.0")).await;
        drop(client);

        // INIT-REBOOT: it knows its lease and asks to go on with it.
        let before = leased(&appliance, "leased 10.77.1.0");
        let client = dhclient(&machine, folder.path());
        until("the old lease", || leased(&appliance, "leased 10.77.1.0") > before).await;
        drop(client);
        let log = log(&folder);
        let first = log.lines().find(|line| line.starts_with("DHCP"));
        let again = "DHCPREQUEST for 10.77.1.0 on eth0 to 255.255.255.255 port 67";
        assert_eq!(first, Some(again), "{log}");
        appliance.end().await;
    });
}

#[test]
fn an_address_that_somebody_uses_is_given_to_nobody() {
    inside("clients::an_address_that_somebody_uses_is_given_to_nobody", async || {
        let mut machines = switch(2);
        let squatter = machines.pop().unwrap();
        let machine = Arc::new(machines.pop().unwrap());
        let mac: MacAddr = "52:54:00:aa:bb:10".parse().unwrap();
        let appliance = Appliance::start();
        let book = &appliance.book;

        // Somebody has set the address by hand that a new machine would be given: ARP finds out before it is committed.
        squatter.run("ip addr add 10.77.1.0/16 dev eth1");
        let told = udhcpc(&machine, "").await.unwrap();
        assert_eq!(told.get("ip").map(String::as_str), Some("10.77.1.1"));
        assert_eq!(book.quarantined(), [(mac, [10, 77, 1, 0].into())]);
        assert_eq!(book.committed(), [mac]);
        let lines: Vec<String> = book.notes().iter().map(|note| note.step.to_string()).collect();
        assert!(
            lines.iter().any(|line| line.contains("52:54:00:aa:bb:11 answers to 10.77.1.0")),
            "{lines:#?}"
        );

        // A known machine pays nothing for that. It looks itself, and says DECLINE.
        squatter.run("ip addr add 10.77.1.1/16 dev eth1");
        let told = udhcpc(&machine, "-a -A 1").await.unwrap();
        assert_eq!(told.get("ip").map(String::as_str), Some("10.77.1.2"));
        assert_eq!(book.quarantined().last(), Some(&(mac, [10, 77, 1, 1].into())));
        let declined = "declined 10.77.1.1: another machine answers to it";
        book.noted(NoteKind::Dhcp, declined).await;
        appliance.end().await;
    });
}

#[test]
fn a_client_with_an_address_of_its_own_is_informed() {
    inside("clients::a_client_with_an_address_of_its_own_is_informed", async || {
        cable(MAC);
        let appliance = Appliance::start();
        // By hand: dhcpcd 9.4 crashes on --inform, and the others here never say it.
        run("ip addr add 10.77.5.5/16 dev lan0");
        let client = tokio::net::UdpSocket::bind("10.77.5.5:68").await.unwrap();
        socket2::SockRef::from(&client).bind_device(Some(b"lan0")).unwrap();
        let mut inform = packet::packet(&[(53, &[packet::INFORM]), (55, &[1, 3, 15])]);
        inform[12..16].copy_from_slice(&[10, 77, 5, 5]);
        client.send_to(&inform, "10.77.0.1:67").await.unwrap();
        appliance.book.noted(NoteKind::Dhcp, "informed 10.77.5.5").await;
        let mut answer = [0; 1500];
        let received = tokio::time::timeout(Duration::from_secs(10), client.recv_from(&mut answer)).await;
        let (length, from) = received.unwrap().unwrap();
        assert_eq!((from.to_string().as_str(), &answer[16..20]), ("10.77.0.1:67", &[0; 4][..]));
        let domain = b"\x0f\x09elisandra";
        assert!(answer[..length].windows(domain.len()).any(|window| window == domain));
        assert_eq!(appliance.book.committed(), [], "no lease comes of it");
        appliance.end().await;
    });
}

#[test]
fn perfdhcp_loses_no_exchange() {
    inside("clients::perfdhcp_loses_no_exchange", async || {
        cable(MAC);
        let machine = Arc::new(Machine::take_eth0());
        machine.run("ip addr add 10.77.0.2/16 dev eth0");
        let appliance = Appliance::start();
        // As a relay and by broadcasts, with renewals and releases among them.
        for to in ["-l eth0 10.77.0.1", "-B -b mac=00:0c:01:02:04:00 -l eth0 255.255.255.255"] {
            let command = format!("perfdhcp -4 -r 60 -f 20 -F 10 -R 100 -n 120 -p 20 -W 1000000 {to}");
            let there = Arc::clone(&machine);
            let output = tokio::task::spawn_blocking(move || there.output(&command)).await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            // DISCOVER-OFFER, REQUEST-ACK, REQUEST-ACK of renewals.
            assert!(
                figures(&text, "received packets:").iter().take(2).all(|received| *received >= 100),
                "{text}"
            );
            assert!(
                !figures(&text, "drops:").is_empty(),
                "{text} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            // The fourth is of RELEASE, which is not answered.
            assert!(figures(&text, "drops:").iter().take(3).all(|drops| *drops == 0), "{text}");
            assert!(figures(&text, "non unique addresses:").iter().all(|twice| *twice == 0), "{text}");
        }
        assert!(leased(&appliance, "released") > 0);
        appliance.end().await;
    });
}

#[test]
fn a_relay_brings_the_machines_of_another_network() {
    inside("clients::a_relay_brings_the_machines_of_another_network", async || {
        // lan0 here ── up0 relay down0 ── eth0 machine
        run("ip link set lo up");
        run("ip link add lan0 type veth peer name up0");
        run("ip link set lan0 up");
        run(&format!("ip link add down0 type veth peer name eth0 address {MAC}"));
        let relay = Machine::empty();
        relay.take("up0");
        relay.take("down0");
        relay.run("ip link set lo up");
        relay.run("ip addr add 10.77.0.5/16 dev up0");
        relay.run("ip addr add 10.78.0.1/16 dev down0");
        relay.run("sysctl -q -w net.ipv4.ip_forward=1");
        let machine = Arc::new(Machine::take_eth0());
        let appliance = Appliance::start();
        run("ip route add 10.78.0.0/16 via 10.77.0.5");
        // -a adds option 82 and takes it out again, and drops what comes back without it.
        let isc = relay.start("dhcrelay -4 -d -a -id down0 -iu up0 10.77.0.1");

        let told = udhcpc(&machine, "").await.unwrap();
        let say = |name: &str| told.get(name).map(String::as_str);
        assert_eq!((say("ip"), say("router")), (Some("10.78.1.0"), Some("10.78.0.1")));

        // Renewals come by themselves, through the router and past the relay.
        appliance.book.lease_secs.store(8, Ordering::Relaxed);
        let folder = TempDir::new().unwrap();
        let before = leased(&appliance, "leased 10.78.1.0");
        let client = dhclient(&machine, folder.path());
        until("a renewal", || leased(&appliance, "leased 10.78.1.0") >= before + 2).await;
        drop(client);
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.contains("to 10.77.0.1 port 67"), "{log}");
        drop(isc);

        // dnsmasq's relay adds nothing to the packets.
        machine.run("ip addr flush dev eth0");
        let dnsmasq =
            relay.start("dnsmasq -k -p 0 --conf-file=/dev/null --user=root --dhcp-relay=10.78.0.1,10.77.0.1");
        let told = udhcpc(&machine, "").await.unwrap();
        assert_eq!(told.get("ip").map(String::as_str), Some("10.78.1.0"));
        drop(dnsmasq);

        // One that speaks for another relay, for the appliance, or for a network that nobody described.
        run("ip addr add 10.77.0.9/16 dev lan0");
        let liar = tokio::net::UdpSocket::bind("10.77.0.9:6767").await.unwrap();
        socket2::SockRef::from(&liar).bind_device(Some(b"lan0")).unwrap();
        for (giaddr, reason) in [
            ([10, 77, 0, 8], "says that 10.77.0.8 relayed it, and came from 10.77.0.9"),
            ([10, 77, 0, 1], "says that 10.77.0.1 relayed it, which is the address here"),
            ([192, 0, 2, 1], "relayed from the network of 192.0.2.1, which is not described here"),
        ] {
            let mut packet = packet::packet(&[(53, &[packet::DISCOVER])]);
            packet[24..28].copy_from_slice(&giaddr);
            let to = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 67);
            liar.send_to(&packet, to).await.unwrap();
            appliance.book.noted(NoteKind::Dhcp, reason).await;
        }
        appliance.end().await;
    });
}

//! DHCPv6 and router advertisements on a real wire, asked by the clients of real systems.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use pxe::{Boot, MacAddr, NoteKind, Server};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::directory::Book;
use crate::namespace::{Machine, cable, figures, inside, run};

const MAC: &str = "52:54:00:aa:bb:01";
/// 10.77.1.0 in the network of the tests.
const OWN: &str = "fd12:3456:789a:1::a4d:100";
const APPLIANCE: &str = "fd12:3456:789a:1::a4d:1";

struct Appliance {
    book: Arc<Book>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), pxe::ServerError>>,
    files: TempDir,
}

impl Appliance {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("shimx64.efi"), "loader").unwrap();
        let server = Server {
            interface: "lan0".to_owned(),
            address: [10, 77, 0, 1].into(),
            mode: pxe::dhcp::Mode::Full,
            files: files.path().to_owned(),
            loaders: files.path().to_owned(),
            systems: files.path().to_owned(),
            tls: None,
            ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            ca_sha256: "ab".repeat(32).parse().unwrap(),
        };
        let book = Book::six(Boot::Disk, true);
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(book.clone(), stop.clone()));
        run("ip addr add 10.77.0.1/16 dev lan0");
        Self { book, stop, server, files }
    }

    /// Waits until it has listened for others.
    async fn serves(&self) {
        let begun = Instant::now();
        let up = || {
            let shown = Command::new("ip").args(["-6", "addr", "show", "lan0"]).output().unwrap();
            String::from_utf8_lossy(&shown.stdout).contains(APPLIANCE)
        };
        while !up() {
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "the appliance has no address: {:#?}",
                self.book.notes()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}

/// A program that runs in the machine's namespace until this is dropped.
struct Running(Child);

impl Running {
    fn start(machine: &Machine, command: &str) -> Self {
        let mut words = Command::new("nsenter");
        words.args(["-t", &machine.id().to_string(), "-n"]).args(command.split_whitespace());
        Self(words.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is in a file, when it is there.
async fn told(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(begun.elapsed() < Duration::from_secs(20), "nothing in {}", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("script");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn dhclient_gets_the_address_of_its_nic() {
    inside("wire6::dhclient_gets_the_address_of_its_nic", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let appliance = Appliance::start();
        appliance.serves().await;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!("#!/bin/sh\nenv > {at}/new && mv {at}/new {at}/$reason\nexit 0\n");
        let script = script(folder.path(), &text);
        let command = format!("dhclient -6 -1 -d -v -sf {script} -lf {at}/leases -pf {at}/pid eth0");
        let _dhclient = Running::start(&machine, &command);
        let told = told(&folder.path().join("BOUND6")).await;
        assert!(told.contains(&format!("new_ip6_address={OWN}\n")), "{told}");
        assert!(told.contains("new_dhcp6_domain_search=elisandra.\n"), "{told}");
        assert!(told.contains("new_fqdn_hostname=m0\n"), "{told}");
        assert_eq!(appliance.book.committed(), [MAC.parse::<MacAddr>().unwrap()]);
        appliance.book.noted(NoteKind::Dhcp, &format!("REQUEST (IPv6) of a system: leased {OWN}")).await;
        appliance.end().await;
    });
}

/// Starts a program in the machine's namespace with empty folders where clients write.
fn start_system(machine: &Machine, folder: &Path, text: &str) -> Running {
    let text = format!(
        "#!/bin/sh\nset -e\nmount --make-rprivate /\n\
         for at in /run /var/lib/dhcp /var/lib/dhcpcd /var/db; do\n\
         \x20 if [ -d $at ]; then mount -t tmpfs tmpfs $at; fi\ndone\n{text}"
    );
    let path = script(folder, &text);
    Running::start(machine, &format!("unshare --mount {path}"))
}

/// Waits until `eth0` of a machine has this address.
async fn has_address(appliance: &Appliance, machine: &Machine, address: &str) {
    let begun = Instant::now();
    loop {
        let shown = machine.output("ip -6 addr show dev eth0");
        if String::from_utf8_lossy(&shown.stdout).contains(&format!("inet6 {address}/")) {
            return;
        }
        if begun.elapsed() > Duration::from_secs(25) {
            let log = fs::read_to_string(appliance.files.path().join("log")).unwrap_or_default();
            let notes: Vec<String> =
                appliance.book.notes().iter().map(|note| note.step.to_string()).collect();
            panic!("no {address} in {}\n{notes:#?}\n{log}", String::from_utf8_lossy(&shown.stdout));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A system whose program is started by these lines gets the address of its NIC.
fn system(test: &str, lines: &str) {
    inside(&format!("wire6::{test}"), async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let appliance = Appliance::start();
        appliance.serves().await;
        let log = appliance.files.path().join("log");
        let _client = start_system(
            &machine,
            appliance.files.path(),
            &format!("exec > {} 2>&1\n{lines}", log.display()),
        );
        has_address(&appliance, &machine, OWN).await;
        assert_eq!(appliance.book.committed()[0], MAC.parse::<MacAddr>().unwrap());
        appliance.end().await;
    });
}

#[test]
fn dhcpcd_gets_the_address_of_its_nic() {
    // It asks because the router advertisement tells it to (M). Without its hooks, which write /etc/resolv.conf.
    system("dhcpcd_gets_the_address_of_its_nic", "exec dhcpcd -6 -B -d -c /bin/true -f /dev/null eth0\n");
}

#[test]
fn networkd_gets_the_address_of_its_nic() {
    // Its DUID says nothing of the hardware, and its link-local address may not either.
    system(
        "networkd_gets_the_address_of_its_nic",
        "mkdir -p /run/systemd/network\n\
         printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv6\\nIPv6AcceptRA=yes\\nIPv6LinkLocalAddressGenerationMode=stable-privacy\\n' \
         > /run/systemd/network/10.network\n\
         mount -t sysfs -o ro sysfs /sys\n\
         exec /lib/systemd/systemd-networkd\n",
    );
}

/// dnsmasq in the machine's namespace, at 2001:db8::1.
async fn foreign(machine: &Machine, folder: &Path, arguments: &str) -> Running {
    machine.run("ip -6 addr replace 2001:db8::1/64 dev eth0 nodad");
    let lines = format!(
        "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --user=root --pid-file= --leasefile-ro \
         --interface=eth0 --dhcp-range=2001:db8::100,2001:db8::200,64 {arguments}\n"
    );
    start_system(machine, folder, &lines)
}

#[test]
fn a_network_with_a_router_is_left_alone() {
    inside("wire6::a_network_with_a_router_is_left_alone", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let folder = tempfile::tempdir().unwrap();
        let _dnsmasq = foreign(&machine, folder.path(), "--enable-ra").await;
        let appliance = Appliance::start();
        let router = "The router fe80::5054:ff:feaa:bb01 advertises IPv6 on lan0; nothing is given away";
        appliance.book.noted(NoteKind::Refused, router).await;
        // It answers to nobody, gives itself no address and advertises none.
        let at = folder.path().display();
        let ask = format!("dhclient -6 -S -1 -d -sf /bin/true -lf {at}/leases -pf {at}/pid eth0");
        let _ask = Running::start(&machine, &ask);
        appliance.book.noted(NoteKind::Dhcp, "takes care of IPv6 here").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let shown = Command::new("ip").args(["-6", "addr", "show"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("fd12:"), "{shown:?}");
        let shown = machine.output("ip -6 addr show dev eth0");
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("fd12:"), "{shown:?}");
        let given =
            appliance.book.notes().iter().filter(|note| note.step.to_string().contains("leased")).count();
        assert_eq!((given, appliance.book.committed()), (0, vec![]));
        appliance.end().await;
    });
}

#[test]
fn a_dhcp_server_is_found_although_it_advertises_nothing() {
    inside("wire6::a_dhcp_server_is_found_although_it_advertises_nothing", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let folder = tempfile::tempdir().unwrap();
        let _dnsmasq = foreign(&machine, folder.path(), "").await;
        // Its link-local address needs a moment.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let appliance = Appliance::start();
        let server = "The DHCPv6 server fe80::5054:ff:feaa:bb01 answers on lan0; nothing is given away";
        appliance.book.noted(NoteKind::Refused, server).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let shown = machine.output("ip -6 addr show dev eth0");
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("fd12:"), "{shown:?}");
        appliance.end().await;
    });
}

#[test]
fn a_router_that_appears_later_takes_over() {
    inside("wire6::a_router_that_appears_later_takes_over", async || {
        cable(MAC);
        let machine = Machine::take_eth0();
        let appliance = Appliance::start();
        appliance.serves().await;
        // SLAAC of an ordinary kernel.
        let own = "fd12:3456:789a:1:5054:ff:feaa:bb01";
        has_address(&appliance, &machine, own).await;
        let folder = tempfile::tempdir().unwrap();
        let _dnsmasq = foreign(&machine, folder.path(), "--enable-ra").await;
        appliance.book.noted(NoteKind::Refused, "advertises IPv6 on lan0").await;
        // What was advertised is taken back: no new connection is made from it.
        let begun = Instant::now();
        loop {
            let shown = machine.output("ip -6 addr show dev eth0 deprecated");
            if String::from_utf8_lossy(&shown.stdout).contains(own) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{own} is not deprecated");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        appliance.end().await;
    });
}

#[test]
fn a_relay_stands_between() {
    inside("wire6::a_relay_stands_between", async || {
        cable("52:54:00:aa:bb:99");
        let machine = Machine::take_eth0();
        // In the same namespace, the link behind the relay with the client at its other end.
        machine.run("ip link add behind0 type veth peer name client0 address 52:54:00:aa:bb:01");
        machine.run("ip -6 addr add fd12:3456:789a:1::99/64 dev behind0 nodad");
        machine.run("ip link set behind0 up");
        machine.run("ip link set client0 up");
        machine.run("ip link set lo up");
        let appliance = Appliance::start();
        appliance.serves().await;
        let folder = appliance.files.path();
        let _relay = Running::start(&machine, "dhcrelay -6 -d --no-pid -I -l behind0 -u eth0");
        let text = format!("#!/bin/sh\nenv > {0}/new && mv {0}/new {0}/$reason\nexit 0\n", folder.display());
        let script = script(folder, &text);
        let files = format!("-sf {script} -lf {0}/leases -pf {0}/pid", folder.display());
        let _dhclient = Running::start(&machine, &format!("dhclient -6 -1 -d {files} client0"));
        let told = told(&folder.join("BOUND6")).await;
        assert!(told.contains(&format!("new_ip6_address={OWN}\n")), "{told}");
        // Its address is that of the client's NIC, and not of the relay's.
        assert_eq!(appliance.book.committed(), [MAC.parse::<MacAddr>().unwrap()]);
        appliance.end().await;
    });
}

/// By themselves and as a relay brings them, with renewals and releases among them.
#[test]
fn perfdhcp_loses_no_exchange() {
    inside("wire6::perfdhcp_loses_no_exchange", async || {
        cable(MAC);
        let machine = Arc::new(Machine::take_eth0());
        // It binds to the first address that it finds, which is to be the link's own.
        machine.run("sysctl -q -w net.ipv6.conf.eth0.accept_ra=0");
        let appliance = Appliance::start();
        appliance.serves().await;
        for relay in ["", "-A 1"] {
            let command =
                format!("perfdhcp -6 {relay} -r 60 -f 20 -F 10 -R 100 -n 120 -p 20 -W 1000000 -l eth0 all");
            let there = Arc::clone(&machine);
            let output = tokio::task::spawn_blocking(move || there.output(&command)).await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let said = format!("{relay} {text} {}", String::from_utf8_lossy(&output.stderr));
            // SOLICIT-ADVERTISE, REQUEST-REPLY, RENEW-REPLY, RELEASE-REPLY.
            let (received, drops) = (figures(&text, "received packets:"), figures(&text, "drops:"));
            assert_eq!((received.len(), drops), (4, vec![0; 4]), "{said}");
            assert!(received[..2].iter().all(|received| *received >= 100), "{said}");
            assert!(received[2..].iter().all(|received| *received > 0), "{said}");
        }
        appliance.end().await;
    });
}

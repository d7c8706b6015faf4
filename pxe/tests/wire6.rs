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

mod directory;
mod namespace;
use directory::Book;
use namespace::{Machine, cable, inside, run};

const MAC: &str = "52:54:00:aa:bb:01";
/// 10.77.1.0 in the network of the tests.
const OWN: &str = "fd12:3456:789a:1::a4d:100";
const APPLIANCE: &str = "fd12:3456:789a:1::a4d:1";

struct Appliance {
    book: Arc<Book>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), pxe::ServerError>>,
    _files: TempDir,
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
        Self { book, stop, server, _files: files }
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
    inside("dhclient_gets_the_address_of_its_nic", async || {
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

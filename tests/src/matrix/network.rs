//! Bridges and taps in a network namespace of this process, and the boot servers on them.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::Ipv6Net;
use pxe::dhcp::Mode;
use pxe::{MacAddr, Network, Server, Tls};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::payload::Products;
use crate::child;

/// Set in the process that has an empty network to itself.
const MARK: &str = "ELISANDRA_MATRIX_NAMESPACE";

/// Starts this program again with an empty network of its own, so that it may serve port 67; returns in the one that
/// was started. As root, or where user namespaces are allowed.
pub fn enter_namespace() -> Result<()> {
    if is_inside() {
        return run("ip link set lo up");
    }
    Err(in_namespace()?.exec()).context("starting unshare, of util-linux")
}

pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// This program with the same arguments, in an empty network of its own.
pub fn in_namespace() -> Result<Command> {
    let root = nix::unistd::geteuid().is_root();
    let namespaces: &[&str] = if root { &["--net"] } else { &["--net", "--user", "--map-root-user"] };
    let mut again = Command::new("unshare");
    again.args(namespaces).arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(MARK, "1");
    Ok(again)
}

/// A LAN with boot servers on it.
pub struct Lan {
    pub bridge: String,
    pub address: Ipv4Addr,
    pub book: Arc<Book>,
    taps: AtomicUsize,
    stop: CancellationToken,
}

/// A machine's plug; taken away when dropped.
pub struct Tap {
    pub name: String,
}

impl Lan {
    /// The bridge `lanN` with the address 10.(77+N).0.1/16, and no boot servers of ours on it.
    pub fn bare(number: u8) -> Result<Lan> {
        Lan::with(number, None)
    }

    fn with(number: u8, network6: Option<Ipv6Net>) -> Result<Lan> {
        let bridge = format!("lan{number}");
        let address = Ipv4Addr::new(10, 77 + number, 0, 1);
        run(&format!("ip link add {bridge} type bridge forward_delay 0"))?;
        run(&format!("ip addr add {address}/16 dev {bridge}"))?;
        run(&format!("ip link set {bridge} up"))?;
        let network = Network {
            subnet: ipnet::Ipv4Net::new(address, 16)?.trunc(),
            router: None,
            dns: Vec::new(),
            domain: "elisandra".to_owned(),
            ntp: Vec::new(),
            routes: Vec::new(),
            mtu: None,
        };
        let book = Book::new(network, network6);
        Ok(Lan { bridge, address, book, taps: AtomicUsize::new(0), stop: CancellationToken::new() })
    }

    /// The same with our boot servers.
    pub fn start(number: u8, mode: Mode, files: &Path, loaders: &Path) -> Result<Lan> {
        Lan::bare(number)?.serve(mode, files, loaders, None)
    }

    /// The same with IPv6 only: nothing is given away over IPv4.
    pub fn six(number: u8, files: &Path, loaders: &Path) -> Result<Lan> {
        let network = "fd12:3456:789a:1::/64".parse().context("a constant is wrong")?;
        Lan::with(number, Some(network))?.serve(Mode::Full, files, loaders, None)
    }

    /// Firmware that boots over HTTP is sent to HTTPS.
    pub fn https(number: u8, products: &Products) -> Result<Lan> {
        let lan = Lan::bare(number)?;
        let tls = products.tls(lan.address)?;
        lan.serve(Mode::Full, &products.tiny, &products.loaders, Some(tls))
    }

    fn serve(self, mode: Mode, files: &Path, loaders: &Path, tls: Option<Tls>) -> Result<Lan> {
        let (bridge, address) = (self.bridge.clone(), self.address);
        let server = Server {
            interface: bridge.clone(),
            address,
            mode,
            files: files.to_owned(),
            loaders: loaders.to_owned(),
            systems: files.join("os"),
            tls,
            ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            ca_sha256: "ab".repeat(32).parse().map_err(|_| anyhow::anyhow!("a constant is wrong"))?,
        };
        let running = server.run(self.book.clone(), self.stop.clone());
        let name = bridge;
        tokio::spawn(async move {
            if let Err(error) = running.await {
                println!("the boot servers of {name} ended: {:#}", anyhow::Error::from(error));
            }
        });
        Ok(self)
    }

    pub fn tap(&self) -> Result<Tap> {
        let name = format!("{}t{}", self.bridge, self.taps.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip tuntap add {name} mode tap"))?;
        let tap = Tap { name };
        run(&format!("ip link set {} master {} up", tap.name, self.bridge))?;
        Ok(tap)
    }
}

/// A computer with dnsmasq as the DHCP server of a LAN, at 10.(77+N).0.2; it is gone when dropped.
pub struct Foreign {
    computer: Child,
    programs: Vec<Child>,
}

impl Foreign {
    /// It gives each of these machines an address, and says nothing of booting but in `options`.
    pub fn start(lan: &Lan, machines: &[MacAddr], options: &[String]) -> Result<Foreign> {
        let [a, b, _, _] = lan.address.octets();
        let mut sleep = child::command("unshare");
        sleep.args(["--net", "sleep", "100000"]).stdout(Stdio::null());
        let computer = child::spawn(sleep).context("starting a network namespace")?;
        let id = computer.id();
        // The process has its namespace a moment after it has begun.
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        let begun = Instant::now();
        while std::fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|its| its == ours) {
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("unshare makes no namespace");
            }
            thread::sleep(Duration::from_millis(10));
        }
        let plug = format!("{}d", lan.bridge);
        run(&format!("ip link add {plug} type veth peer name eth0 netns {id}"))?;
        run(&format!("ip link set {plug} master {} up", lan.bridge))?;
        run(&format!("nsenter -t {id} -n ip link set lo up"))?;
        run(&format!("nsenter -t {id} -n ip addr add {a}.{b}.0.2/16 dev eth0"))?;
        run(&format!("nsenter -t {id} -n ip link set eth0 up"))?;
        // Without an address of its own in the network it announces none.
        run(&format!("nsenter -t {id} -n ip addr add fd77::2/64 dev eth0 nodad"))?;
        let mut command = child::command("nsenter");
        command.args(["-t", &id.to_string(), "-n", "dnsmasq"]);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
        command.args(["--pid-file=", "--leasefile-ro", "--dhcp-authoritative", "--log-facility=/dev/null"]);
        command.arg(format!("--dhcp-range={a}.{b}.200.0,static"));
        for (number, mac) in machines.iter().enumerate() {
            let address = Ipv4Addr::new(a, b, 200, u8::try_from(number)?);
            command.arg(format!("--dhcp-host={mac},{address}"));
            lan.book.knows(*mac, address);
        }
        command.args(options);
        let dnsmasq = child::spawn(command).context("starting dnsmasq; tests/needs installs it")?;
        Ok(Foreign { computer, programs: vec![dnsmasq] })
    }
}

impl Foreign {
    /// Python's web server on it, for the files of this folder. EDK2 waits half a minute for each answer 404 that has no
    /// body, and shim asks for files that are not there; Python's have one.
    pub fn serve(&mut self, folder: &Path) -> Result<()> {
        let mut command = child::command("nsenter");
        command.args(["-t", &self.computer.id().to_string(), "-n", "python3", "-m", "http.server", "80"]);
        command.args(["--protocol", "HTTP/1.1", "--directory"]).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.programs.push(child::spawn(command).context("starting Python's web server")?);
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.programs.iter_mut().for_each(child::kill);
        child::kill(&mut self.computer);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // The namespace ends with this process, and takes with it what stays.
        let _ = run(&format!("ip link del {}", self.name));
    }
}

pub fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program).args(words).output().with_context(|| format!("running {command}"))?;
    if !output.status.success() {
        bail!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

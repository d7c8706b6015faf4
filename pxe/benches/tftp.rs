//! TFTP beside atftpd, tftpd-hpa and dnsmasq, in one run and with one client for all: speed, and processor time per GB.
//!
//! `cargo bench -p pxe --bench tftp [-- CASE…]`, as root. Every server gets the same files in the same network namespace;
//! each figure is the best of three. Servers that are not installed are left out; atftpd and tftpd-hpa cannot be installed
//! beside each other, so `TFTP_PEERS` may name a folder with the unpacked packages (`dpkg -x`).

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ipnet::Ipv6Net;
use pxe::{Assignment, Boot, Directory, MacAddr, Network, Note, Refused, Sight, tftp};

#[path = "../tests/it/tftp_client.rs"]
mod tftp_client;
use tftp_client::Got;

const RUNS: usize = 3;

struct Case {
    name: &'static str,
    clients: u16,
    window: u16,
    megabytes: u64,
    /// Of a proxy between, as this kernel may have no NETEM.
    round_trip: Option<Duration>,
}

const MS: Option<Duration> = Some(Duration::from_millis(1));
const CASES: &[Case] = &[
    Case { name: "1 client", clients: 1, window: 1, megabytes: 40, round_trip: None },
    Case { name: "1 client, window 16", clients: 1, window: 16, megabytes: 200, round_trip: None },
    Case { name: "1 client, window 64", clients: 1, window: 64, megabytes: 200, round_trip: None },
    Case { name: "50 clients", clients: 50, window: 1, megabytes: 5, round_trip: None },
    Case { name: "50 clients, window 16", clients: 50, window: 16, megabytes: 20, round_trip: None },
    Case { name: "1 ms away", clients: 1, window: 1, megabytes: 2, round_trip: MS },
    Case { name: "1 ms away, window 16", clients: 1, window: 16, megabytes: 20, round_trip: MS },
    Case { name: "1 ms away, window 64", clients: 1, window: 64, megabytes: 60, round_trip: MS },
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("--serve") => serve(Path::new(&arguments[1])),
        Some("--inside") => compare(&arguments[1..]),
        // dnsmasq's TFTP has one port, which may be in use here.
        _ => {
            let bench = env::current_exe().unwrap();
            // tftpd-hpa wants to see an address that is not of the loopback network.
            let script = "ip link set lo up && ip address add 10.77.77.1/32 dev lo && exec \"$@\"";
            let status = Command::new("unshare")
                .args(["--net", "sh", "-c", script, "sh"])
                .arg(bench)
                .arg("--inside")
                .args(arguments)
                .status()
                .expect("unshare (util-linux)");
            assert!(status.success());
        }
    }
}

fn compare(wanted: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    for megabytes in CASES.iter().map(|case| case.megabytes) {
        let bytes: Vec<u8> = (0..megabytes * 1_000_000).map(|n| (n / 509) as u8).collect();
        fs::write(folder.path().join(format!("{megabytes}")), bytes).unwrap();
    }
    // Servers that change their user read them too.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()));
    println!("{:24} {:12} {:>10} {:>12}", "", "", "MB/s", "CPU-s/GB");
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|name| name == case.name)) {
        for kind in Kind::ALL {
            let Some(server) = Server::start(kind, folder.path()) else {
                println!("{:24} {:12} {:>10}", case.name, kind.name(), "not here");
                continue;
            };
            let mut best: Option<(f64, f64)> = None;
            let mut agreed = case.window;
            for _ in 0..RUNS {
                let before = server.cpu_seconds();
                let (seconds, window) = measure(case, server.address);
                agreed = agreed.min(window);
                let cpu = server.cpu_seconds() - before;
                let bytes = f64::from(case.clients) * case.megabytes as f64 * 1e6;
                let result = (bytes / seconds / 1e6, cpu / (bytes / 1e9));
                best = Some(best.map_or(result, |best| (best.0.max(result.0), best.1.min(result.1))));
                if agreed < case.window {
                    break;
                }
            }
            let (speed, cpu) = best.unwrap();
            if agreed < case.window {
                println!("{:24} {:12} {:>10}", case.name, kind.name(), "no windows");
            } else {
                // tftpd-hpa has a process for each transfer and waits for none of them, so nobody counts their time.
                let cpu = if kind == Kind::Hpa { "not counted".to_owned() } else { format!("{cpu:.2}") };
                println!("{:24} {:12} {speed:>10.1} {cpu:>12}", case.name, kind.name());
            }
        }
    }
}

/// Seconds until every client has the file, and the smallest window that was agreed to.
fn measure(case: &Case, server: SocketAddr) -> (f64, u16) {
    let proxy = case.round_trip.map(|round_trip| Proxy::start(server, round_trip));
    let address = proxy.as_ref().map_or(server, |proxy| proxy.address);
    let name = case.megabytes.to_string();
    let (window, expected) = (case.window, case.megabytes * 1_000_000);
    let start = Instant::now();
    let clients: Vec<_> = (0..case.clients)
        .map(|number| {
            let name = name.clone();
            thread::spawn(move || {
                let from = SocketAddr::from(([127, 0, 1, 1 + number as u8], 0));
                let mut sum = 0_u64;
                let got = tftp_client::get(address, from, &name, 1468, window, |data| {
                    sum += u64::from(data.first().copied().unwrap_or_default());
                });
                let Got { bytes, window } = got.unwrap();
                assert!(bytes == expected && sum > 0);
                window
            })
        })
        .collect();
    let agreed = clients.into_iter().map(|client| client.join().unwrap()).min().unwrap();
    (start.elapsed().as_secs_f64(), agreed)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ours,
    Atftpd,
    Hpa,
    Dnsmasq,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ours, Self::Atftpd, Self::Hpa, Self::Dnsmasq];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "elisandra",
            Self::Atftpd => "atftpd",
            Self::Hpa => "tftpd-hpa",
            Self::Dnsmasq => "dnsmasq",
        }
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(kind: Kind, folder: &Path) -> Option<Self> {
        let port = if kind == Kind::Dnsmasq { "69".to_owned() } else { "6969".to_owned() };
        let mut command = match kind {
            Kind::Ours => {
                let mut command = Command::new(env::current_exe().unwrap());
                command.arg("--serve").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
                command
            }
            Kind::Atftpd => {
                let mut command = Command::new(installed("usr/sbin/atftpd")?);
                command.args([
                    "--daemon",
                    "--no-fork",
                    "--no-multicast",
                    "--verbose=0",
                    "--maxthread",
                    "1000",
                ]);
                command
                    .args(["--user", "root.root", "--bind-address", "127.0.0.1", "--port", &port])
                    .arg(folder);
                command
            }
            Kind::Hpa => {
                // The package atftpd has a link to itself by this name.
                let program = installed("usr/sbin/in.tftpd")?.canonicalize().ok()?;
                if program.ends_with("atftpd") {
                    return None;
                }
                let mut command = Command::new(program);
                command.args(["-L", "-u", "root", "-a", &format!("127.0.0.1:{port}"), "-s"]).arg(folder);
                command
            }
            Kind::Dnsmasq => {
                let mut command = Command::new(installed("usr/sbin/dnsmasq")?);
                command.args(["-k", "-C", "/dev/null", "-p", "0", "-u", "root", "--interface=lo"]);
                command.args([
                    "--bind-interfaces",
                    "--enable-tftp",
                    "--tftp-max=1000",
                    "--log-facility=/dev/null",
                ]);
                command.arg(format!("--tftp-root={}", folder.display()));
                command
            }
        };
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let port = match &mut child.stdout {
            Some(stdout) => {
                let mut line = String::new();
                BufReader::new(stdout).read_line(&mut line).unwrap();
                line.trim().to_owned()
            }
            None => port,
        };
        let server = Self { child, address: format!("127.0.0.1:{port}").parse().unwrap() };
        // It answers when it is there, also that there is no such file.
        for _ in 0..100 {
            let from = "127.0.0.1:0".parse().unwrap();
            let probe = tftp_client::probe(server.address, from);
            if probe {
                return Some(server);
            }
        }
        panic!("{} does not answer", kind.name());
    }

    /// Of it and of the children it has waited for.
    fn cpu_seconds(&self) -> f64 {
        // A child that has just sent its last block needs a moment to end.
        thread::sleep(Duration::from_millis(50));
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = fields[11..15].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let unpacked = env::var("TFTP_PEERS").map(|folder| Path::new(&folder).join(program)).ok();
    let here = Some(Path::new("/").join(program));
    [unpacked, here].into_iter().flatten().find(|path| path.exists())
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Delays what goes to a server and comes from it by half of a round trip each. For one client.
struct Proxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: SocketAddr, round_trip: Duration) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            socket2::SockRef::from(socket).set_recv_buffer_size(4 << 20).unwrap();
        }
        let address = near.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        // Who the two ends are is learned from what they send.
        let client = Arc::new(std::sync::Mutex::new(server));
        let transfer = Arc::new(std::sync::Mutex::new(server));
        for (from, to, sender, receiver) in
            [(&near, &far, &client, &transfer), (&far, &near, &transfer, &client)]
        {
            let (from, to, stop) = (Arc::clone(from), Arc::clone(to), Arc::clone(&stop));
            let (sender, receiver) = (Arc::clone(sender), Arc::clone(receiver));
            let (queue, delayed) = mpsc::channel::<(Instant, Vec<u8>)>();
            thread::spawn(move || {
                let mut packet = [0; 2000];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, address)) = from.recv_from(&mut packet) {
                        *sender.lock().unwrap() = address;
                        let due = Instant::now() + round_trip / 2;
                        if queue.send((due, packet[..length].to_vec())).is_err() {
                            return;
                        }
                    }
                }
            });
            thread::spawn(move || {
                for (due, packet) in delayed {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let receiver = *receiver.lock().unwrap();
                    to.send_to(&packet, receiver).unwrap();
                }
            });
        }
        Self { address, stop }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Our server, until standard input ends.
fn serve(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        println!("{}", socket.local_addr().unwrap().port());
        let files = tftp::Files {
            loaders: folder.to_owned(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            directory: Arc::new(Nobody),
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let server = tokio::spawn(tftp::serve(socket, files, stop.clone()));
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await.unwrap().unwrap();
        stop.cancel();
        server.await.unwrap().unwrap();
    });
}

struct Nobody;

#[async_trait::async_trait]
impl Directory for Nobody {
    async fn offer(&self, _: &Sight) -> Result<Assignment, Refused> {
        Err(Refused("there are no addresses here".to_owned()))
    }

    async fn commit(&self, sight: &Sight) -> Result<Assignment, Refused> {
        self.offer(sight).await
    }

    async fn quarantine(&self, _: MacAddr, _: std::net::Ipv4Addr) {}

    fn network(&self, _: Option<std::net::Ipv4Addr>) -> Option<Arc<Network>> {
        None
    }

    fn network6(&self) -> Option<Ipv6Net> {
        None
    }

    fn boot(&self, _: MacAddr) -> Boot {
        Boot::Disk
    }

    async fn answers(&self, _: &str, _: IpAddr) -> Result<String, Refused> {
        Err(Refused("nothing is being installed".to_owned()))
    }

    fn note(&self, _: Note) {}
}

//! The HTTP server beside nginx, both over loopback on the same cores, in turns, best of three.
//!
//! `cargo bench -p pxe --bench http` needs curl and nginx (Debian's nginx-light will do). Parts can be named: `large`,
//! `small`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pxe::{
    Boot,
    http::{self, Files, Limits, Listener},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

#[path = "../tests/it/directory.rs"]
mod directory;
use directory::Book;

const MEGABYTES: u64 = 600;
const ROUNDS: usize = 3;
const SCRIPT: &str = "/boot/02-00-00-00-00-01/script.ipxe";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [word, folder] = arguments.as_slice()
        && word == "serve"
    {
        return serve(Path::new(folder));
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    let bench = Bench::new();
    if wanted("large") {
        println!("| a file of {MEGABYTES} MB, curl | ours | nginx | ours, CPU-s per GB | nginx |");
        println!("|---|---|---|---|---|");
        for clients in [1, 20] {
            let [ours, nginx] = bench.best(|server| server.large(clients), |run| run.rate);
            println!(
                "| {clients} at once | {:.2} GB/s | {:.2} GB/s | {:.3} | {:.3} |",
                ours.rate, nginx.rate, ours.cpu, nginx.cpu
            );
        }
    }
    if wanted("small") {
        println!("| an iPXE script, 64 at once | ours | nginx, as a file | ours, CPU-µs each | nginx |");
        println!("|---|---|---|---|---|");
        for (how, keep) in [("a connection each", false), ("connections kept", true)] {
            let [ours, nginx] = bench.best(|server| server.small(keep), |run| run.rate);
            println!(
                "| {how} | {:.0}/s | {:.0}/s | {:.1} | {:.1} |",
                ours.rate, nginx.rate, ours.cpu, nginx.cpu
            );
        }
    }
}

/// This server, in a process of its own so that its processor time can be told.
#[tokio::main]
async fn serve(folder: &Path) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", socket.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let files = Files {
        address: [127, 0, 0, 1].into(),
        artifacts: folder.to_owned(),
        loaders: folder.to_owned(),
        systems: folder.to_owned(),
        ca_pem: String::new(),
        ca_sha256: "ab".repeat(32).parse().unwrap(),
        directory: Book::new(Boot::Disk),
    };
    let listener = Listener { socket, tls: None };
    http::serve(vec![listener], files, Limits::default(), CancellationToken::new()).await.unwrap();
}

struct Bench {
    _files: TempDir,
    servers: [Served; 2],
}

/// A server that runs, with what it is made of.
struct Served {
    address: SocketAddr,
    root: &'static str,
    process: Child,
}

#[derive(Clone, Copy)]
struct Run {
    /// GB or requests a second.
    rate: f64,
    /// Seconds per GB or microseconds per request.
    cpu: f64,
}

impl Bench {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let megabyte: Vec<u8> =
            (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut large = fs::File::create(path.join("large")).unwrap();
        for _ in 0..MEGABYTES {
            large.write_all(&megabyte[..1_000_000]).unwrap();
        }
        large.sync_all().unwrap();
        let ours = Served::ours(path);
        fs::create_dir_all(path.join("boot/02-00-00-00-00-01")).unwrap();
        fs::write(path.join(&SCRIPT[1..]), ours.get(SCRIPT)).unwrap();
        let servers = [ours, Served::nginx(path)];
        Self { _files: files, servers }
    }

    /// In turns, so that what else the computer does falls on both.
    fn best(&self, run: impl Fn(&Served) -> Run, better: impl Fn(&Run) -> f64) -> [Run; 2] {
        let mut best: [Option<Run>; 2] = [None; 2];
        for _ in 0..ROUNDS {
            for (server, best) in self.servers.iter().zip(&mut best) {
                let this = run(server);
                if best.is_none_or(|best| better(&this) > better(&best)) {
                    *best = Some(this);
                }
            }
        }
        best.map(Option::unwrap)
    }
}

impl Served {
    fn ours(files: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("serve")
            .arg(files)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { address: line.trim().parse().unwrap(), root: "/boot/files/", process }
    }

    fn nginx(files: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = files.display();
        let config = format!(
            "daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes auto;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
                 default_type application/octet-stream;
                 server {{ listen 127.0.0.1:{port}; root {folder}; }}
             }}"
        );
        fs::write(files.join("nginx.conf"), config).unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(files.join("nginx.conf"))
            .spawn()
            .expect("nginx is installed: apt-get install nginx-light");
        let served = Self { address: ([127, 0, 0, 1], port).into(), root: "/", process };
        let begun = Instant::now();
        while std::net::TcpStream::connect(served.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "nginx does not start");
            thread::sleep(Duration::from_millis(20));
        }
        served
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let output =
            Command::new("curl").args(["-sf", &format!("http://{}{path}", self.address)]).output().unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        output.stdout
    }

    fn large(&self, clients: u64) -> Run {
        let url = format!("http://{}{}large", self.address, self.root);
        // One alone is done in a third of a second: too little for the clock that processor time is counted by.
        let times = if clients == 1 { 8 } else { 1 };
        let (begun, cpu) = (Instant::now(), self.cpu());
        let curls: Vec<Child> = (0..clients)
            .map(|_| {
                let mut curl = Command::new("curl");
                curl.arg("-sf");
                for _ in 0..times {
                    curl.args(["-o", "/dev/null", &url]);
                }
                curl.spawn().unwrap()
            })
            .collect();
        for mut curl in curls {
            assert!(curl.wait().unwrap().success(), "{url}");
        }
        let gigabytes = (clients * times * MEGABYTES) as f64 / 1000.0;
        Run { rate: gigabytes / begun.elapsed().as_secs_f64(), cpu: (self.cpu() - cpu) / gigabytes }
    }

    fn small(&self, keep: bool) -> Run {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let done = Arc::new(AtomicU64::new(0));
        let (begun, cpu) = (Instant::now(), self.cpu());
        runtime.block_on(async {
            let address = self.address;
            for _ in 0..64 {
                let done = Arc::clone(&done);
                tokio::spawn(async move {
                    let mut kept = None;
                    loop {
                        let mut stream = match kept.take() {
                            Some(stream) => stream,
                            None => TcpStream::connect(address).await.unwrap(),
                        };
                        ask(&mut stream, keep).await;
                        if keep {
                            kept = Some(stream);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        let (done, seconds, cpu) =
            (done.load(Ordering::Relaxed) as f64, begun.elapsed().as_secs_f64(), self.cpu() - cpu);
        runtime.shutdown_background();
        Run { rate: done / seconds, cpu: cpu * 1e6 / done }
    }

    /// Of the process and its children (nginx's workers), in seconds.
    fn cpu(&self) -> f64 {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
        let own = self.process.id();
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            // The name, in brackets, may have spaces in it.
            let (pid, rest) = (stat.split(' ').next()?.parse::<u32>().ok()?, stat.rsplit(") ").next()?);
            let fields: Vec<&str> = rest.split(' ').collect();
            let parent: u32 = fields.get(1)?.parse().ok()?;
            let used = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok());
            (pid == own || parent == own).then_some(used(11)? + used(12)?)
        });
        all.sum::<f64>() / ticks
    }
}

async fn ask(stream: &mut TcpStream, keep: bool) {
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET {SCRIPT} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::with_capacity(4096);
    loop {
        let read = stream.read_buf(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if body.len() as u64 == length.parse::<u64>().unwrap() && (keep || read == 0) {
                return;
            }
        }
        assert!(read > 0, "{text}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // nginx's master ends its workers; our own process has none.
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

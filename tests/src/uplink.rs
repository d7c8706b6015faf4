//! The one way out of a network namespace: to the Debian mirror that apt of this computer uses, as apt reaches it.
//!
//! ```text
//! in the namespace: http_proxy=127.0.0.1:PORT ── unix socket ── outside of it: apt's proxy, or the mirror itself
//! ```
//!
//! A client with a proxy names the whole URL in its request, which servers take as well as proxies do (RFC 9112,
//! 3.2.2). So nothing is looked up in the namespace, and bytes are passed as they are.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::matrix::network;

/// Set in the namespace: the socket.
const SOCKET: &str = "ELISANDRA_UPLINK";

/// A Debian mirror, and whom this computer asks for its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `http://deb.debian.org/debian`
    pub url: String,
    /// `HOST:PORT`
    through: String,
}

impl Mirror {
    pub fn of_apt() -> Result<Mirror> {
        let indices = said("apt-get", &["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])?;
        let url = indices.lines().map(|line| line.trim_end_matches('/')).find(|url| url.ends_with("/debian"));
        let url = url.context("apt of this computer uses no Debian mirror, whose URL ends with /debian")?;
        let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let host = host.with_context(|| format!("{url} is no mirror that is reached by HTTP"))?;
        let name = host.split(':').next().unwrap_or(host);
        let proxy = |option: &str| -> Result<Option<String>> {
            let shell = said("apt-config", &["shell", "PROXY", option])?;
            let value = shell.trim().strip_prefix("PROXY=").map(|value| value.trim_matches('\'').to_owned());
            Ok(value.filter(|value| !value.is_empty()))
        };
        let own = proxy(&format!("Acquire::http::Proxy::{name}"))?;
        let proxy = own.or(proxy("Acquire::http::Proxy")?).or_else(|| std::env::var("http_proxy").ok());
        let through = match proxy.as_deref() {
            None | Some("" | "DIRECT") => with_port(host, 80),
            Some(proxy) => {
                let place = proxy.strip_prefix("http://").unwrap_or(proxy).trim_end_matches('/');
                ensure!(!place.contains(['/', '@']), "apt's proxy {proxy:?} is none that the lab can pass");
                with_port(place, 3128)
            }
        };
        Ok(Mirror { url: url.to_owned(), through })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.through.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether it gives this file.
    pub fn gives(&self, path: &str) -> Result<()> {
        let url = format!("{}/{path}", self.url);
        let (head, _) = self.ask("HEAD", &url).with_context(|| {
            format!(
                "no Debian mirror is reached from here ({url}); the installer takes every package from one"
            )
        })?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(
            status.split(' ').nth(1) == Some("200"),
            "the Debian mirror answers {status:?} for {url}, which the installer needs"
        );
        Ok(())
    }

    /// A file of it.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}/{path}", self.url);
        let (head, body) = self.ask("GET", &url).with_context(|| {
            format!(
                "no Debian mirror is reached from here ({url}); the installer takes every package from one"
            )
        })?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.split(' ').nth(1) == Some("200"), "the Debian mirror answers {status:?} for {url}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        // Without a length it would come in chunks.
        ensure!(length == Some(body.len()), "the Debian mirror broke off in {url}");
        Ok(body)
    }

    /// The head of the answer, and what comes with it, to the end of the connection.
    fn ask(&self, method: &str, url: &str) -> io::Result<(String, Vec<u8>)> {
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "{method} {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Ok((head, answer.split_off(answer.len().min(end + 4))))
    }

    /// Carries this program out again in an empty network with an uplink, and waits for it.
    pub fn carry_out(self, arguments: &[&OsStr]) -> Result<ExitCode> {
        let folder = tempfile::Builder::new().prefix("elisandra-uplink-").tempdir()?;
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).context("making the uplink's socket")?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mirror = self.clone();
                thread::spawn(move || match mirror.connect() {
                    Ok(out) => pass(stream, out),
                    Err(error) => println!("{} cannot be reached: {error}", mirror.through),
                });
            }
        });
        // Ctrl-C reaches both; the one inside takes its machines down and ends, and with it this one.
        crate::interrupt::on_interrupt(|| {})?;
        let again = network::in_namespace()?;
        let mut inside = Command::new("setpriv");
        inside.args(["--pdeathsig", "KILL", "--"]).arg(again.get_program()).args(again.get_args());
        inside.args(arguments).envs(again.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut inside = inside.env(SOCKET, &path).spawn().context("starting setpriv and unshare")?;
        let ended = inside.wait()?;
        Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The end of it that is in the namespace.
pub struct Uplink {
    pub address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Uplink {
    pub fn open() -> Result<Uplink> {
        let socket: PathBuf = std::env::var_os(SOCKET).context("this namespace has no uplink")?.into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                let (socket, is_cut) = (socket.clone(), Arc::clone(&is_cut));
                thread::spawn(move || {
                    if let Ok(out) = UnixStream::connect(&socket) {
                        pass_until(&is_cut, stream, out);
                    }
                });
            }
        });
        Ok(Uplink { address, cut })
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

fn pass(inside: UnixStream, outside: TcpStream) {
    let (Ok(from), Ok(to)) = (inside.try_clone(), outside.try_clone()) else { return };
    let there = thread::spawn(move || copy(from, to, |to| to.shutdown(Shutdown::Write), || false));
    copy(outside, inside, |to| to.shutdown(Shutdown::Write), || false);
    let _ = there.join();
}

fn pass_until(is_cut: &Arc<AtomicBool>, inside: TcpStream, outside: UnixStream) {
    let (Ok(from), Ok(to)) = (inside.try_clone(), outside.try_clone()) else { return };
    let cut = Arc::clone(is_cut);
    let there = thread::spawn(move || {
        copy(from, to, |to| to.shutdown(Shutdown::Both), || cut.load(Ordering::Relaxed));
    });
    copy(outside, inside, |to| to.shutdown(Shutdown::Both), || is_cut.load(Ordering::Relaxed));
    let _ = there.join();
}

/// Until one end closes. An end that is gone is what a connection comes to, and no error.
fn copy<A: io::Read, B: io::Write>(
    mut from: A,
    mut to: B,
    close: impl Fn(&B) -> io::Result<()>,
    is_cut: impl Fn() -> bool,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if is_cut() || to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = close(&to);
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") }
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

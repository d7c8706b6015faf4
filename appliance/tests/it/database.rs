//! Databases for tests: a file of SQLite, or a PostgreSQL server of its own, started from Debian's package and
//! ended with the test.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use appliance::store::Store;

/// An empty database that lives as long as this value.
pub struct Database {
    pub url: String,
    pub folder: tempfile::TempDir,
    server: Option<Server>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Database {
    pub fn new(kind: Kind) -> Database {
        let folder = tempfile::tempdir().unwrap();
        match kind {
            Kind::Sqlite => Database {
                url: format!("sqlite:{}", folder.path().join("log.sqlite").display()),
                folder,
                server: None,
            },
            Kind::Postgres => {
                let server = Server::start(folder.path());
                let url = format!("postgres://elisandra@localhost/postgres?host={}", folder.path().display());
                Database { url, folder, server: Some(server) }
            }
        }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    pub fn stop(&mut self, how: Stop) {
        self.server.as_mut().unwrap().stop(how);
    }

    pub fn start_again(&mut self) {
        let server = self.server.as_mut().unwrap();
        server.process = run(&server.data, self.folder.path());
        wait_until_it_answers(self.folder.path());
    }
}

/// As `pg_ctl stop -m` names them.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Breaks every connection off and writes everything down.
    Fast,
    /// As a power cut does.
    Kill,
}

struct Server {
    data: PathBuf,
    process: Child,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let data = folder.join("data");
        // PostgreSQL refuses to run as root.
        give_to_postgres(folder);
        let made = as_postgres(&tool("initdb"))
            .args([
                "--auth=trust",
                "--username=elisandra",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            .arg(&data)
            .output()
            .expect("initdb comes with Debian's package postgresql");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = run(&data, folder);
        wait_until_it_answers(folder);
        Server { data, process }
    }

    fn stop(&mut self, how: Stop) {
        match how {
            Stop::Fast => {
                let pid = self.process.id().to_string();
                assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            }
            Stop::Kill => self.process.kill().unwrap(),
        }
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(data: &Path, socket: &Path) -> Child {
    // The children of one that was killed hold its shared memory for a moment more.
    for _ in 0..50 {
        let mut process = try_to_run(data, socket);
        std::thread::sleep(Duration::from_millis(100));
        if process.try_wait().unwrap().is_none() {
            return process;
        }
    }
    panic!("{}", std::fs::read_to_string(socket.join("postgres.log")).unwrap_or_default());
}

fn try_to_run(data: &Path, socket: &Path) -> Child {
    let _ = std::fs::remove_file(data.join("postmaster.pid"));
    let log = std::fs::File::create(socket.join("postgres.log")).unwrap();
    as_postgres(&tool("postgres"))
        .arg("-D")
        .arg(data)
        .arg("-k")
        .arg(socket)
        .args(["-c", "listen_addresses=", "-c", "max_connections=50"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("postgres comes with Debian's package postgresql")
}

fn wait_until_it_answers(socket: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let ready =
            Command::new(tool("pg_isready")).arg("-h").arg(socket).args(["-d", "postgres"]).output().unwrap();
        if ready.status.success() {
            return;
        }
        let log = std::fs::read_to_string(socket.join("postgres.log")).unwrap_or_default();
        assert!(Instant::now() < until, "PostgreSQL does not answer:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The newest that Debian's packages have installed.
fn tool(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("Debian's package postgresql is installed (tests/needs does it)")
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("bin/postgres").exists())
        .collect();
    versions.sort_by_key(|folder| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    versions.last().expect("PostgreSQL's server is installed").join("bin").join(name)
}

/// The command, as a user that is not root and so that it ends with this process.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    command
}

fn give_to_postgres(folder: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres:").arg(folder).status().unwrap().success());
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

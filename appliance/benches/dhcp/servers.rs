//! The DHCP servers, each started anew and without a lease.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
pub const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
pub const PREFIX: u8 = 11;
const FIRST: &str = "10.64.1.0";
const LAST: &str = "10.95.255.254";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `elisandra netboot`, leases in a file.
    Netboot,
    /// `elisandra serve`, leases in the log, on SQLite.
    Appliance,
    /// Leases in a file that it never flushes, two threads.
    Kea,
    /// Without pings.
    Dnsmasq,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Netboot, Kind::Appliance, Kind::Kea, Kind::Dnsmasq];
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Kind::ALL.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(word)).ok_or(())
    }
}

pub struct Running {
    process: Child,
    folder: tempfile::TempDir,
}

impl Running {
    pub fn start(kind: Kind) -> Running {
        Running::start_in(tempfile::tempdir().unwrap(), kind)
    }

    /// With files to boot from in the folder.
    pub fn start_in(folder: tempfile::TempDir, kind: Kind) -> Running {
        let mut command = command(kind, folder.path());
        let log = File::create(folder.path().join("log")).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut running = Running { process, folder };
        running.wait_until_ready();
        running
    }

    /// Kea with its raw socket has no UDP socket to look for, so it is asked.
    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        let ready = ["Serving DHCP", "Ready.", "DHCP4_STARTED", "DHCP, sockets bound"];
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            if ready.iter().any(|words| log.contains(words)) {
                // The sockets are opened in the same moment.
                std::thread::sleep(Duration::from_millis(300));
                return;
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(30), "{ended:?}\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn resident_mb(&self) -> f64 {
        self.memory_mb("VmRSS")
    }

    /// Of proc_pid_status(5): `VmRSS`, `VmHWM`.
    pub fn memory_mb(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    }

    pub fn processor_secs(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        ticks as f64 / 100.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(kind: Kind, folder: &Path) -> Command {
    match kind {
        Kind::Netboot => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_elisandra"));
            command.args(["netboot", "--interface", "lan0", "--listen-secs", "0"]);
            command.args(["--range", &format!("{FIRST}-{LAST}"), "--leases"]).arg(folder.join("leases"));
            let boot = folder.join("boot");
            std::fs::create_dir(&boot).unwrap();
            command.arg("--loaders").arg(&boot).arg(&boot);
            command
        }
        Kind::Appliance => {
            let config = format!(
                "state = {:?}\nrun = {:?}\nfiles = {folder:?}\nloaders = {folder:?}\n\
                 page = \"0.0.0.0:443\"\nnodes = \"0.0.0.0:7443\"\n\
                 [serve]\ninterface = \"lan0\"\naddress = \"{SERVER}\"\nnetwork = \"10.64.0.0/{PREFIX}\"\n",
                folder.join("state"),
                folder.join("run"),
            );
            std::fs::create_dir(folder.join("run")).unwrap();
            std::fs::write(folder.join("elisandra.toml"), config).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_elisandra"));
            command.arg("--config").arg(folder.join("elisandra.toml")).arg("serve");
            command
        }
        Kind::Kea => {
            let config = serde_json::json!({ "Dhcp4": {
                "interfaces-config": { "interfaces": ["lan0"] },
                "lease-database": {
                    "type": "memfile", "persist": true, "lfc-interval": 0, "name": folder.join("leases.csv"),
                },
                "multi-threading": { "enable-multi-threading": true, "thread-pool-size": 2, "packet-queue-size": 64 },
                "valid-lifetime": 43200,
                "subnet4": [{ "subnet": format!("10.64.0.0/{PREFIX}"), "pools": [{ "pool": format!("{FIRST} - {LAST}") }] }],
                "loggers": [{
                    "name": "kea-dhcp4", "severity": "WARN",
                    "output_options": [{ "output": "stdout", "flush": true }],
                }, {
                    "name": "kea-dhcp4.dhcp4", "severity": "INFO",
                    "output_options": [{ "output": "stdout", "flush": true }],
                }],
            }});
            let path = folder.join("kea.json");
            std::fs::write(&path, config.to_string()).unwrap();
            let mut command = Command::new("kea-dhcp4");
            command.arg("-c").arg(path);
            command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", folder);
            command
        }
        Kind::Dnsmasq => {
            let mut command = Command::new("dnsmasq");
            command.args([
                "-k",
                "-C",
                "/dev/null",
                "--port=0",
                "--interface=lan0",
                "--bind-interfaces",
                "--no-ping",
            ]);
            command.args(["--user=root", "--quiet-dhcp", "--log-facility=-", "--dhcp-lease-max=2000000"]);
            command.arg(format!("--dhcp-range={FIRST},{LAST},255.224.0.0,12h"));
            command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
            command.arg(format!("--pid-file={}", folder.join("pid").display()));
            command
        }
    }
}

//! The lab's first machine: booted from our ISO, it becomes the appliance.
//!
//! Its first NIC is on the lab's LAN, where no DHCP server answers; its second
//! is an uplink, over which this computer reaches page and ssh.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::console::{self, Introduction};
use crate::lab::Lab;
use crate::machine::{BootFrom, Disk, Firmware, Forward, Link, Machine, Medium, Nic, Spec, mac_of};
use crate::ssh::Key;

/// The appliance's address on the LAN that it serves.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The lab is reached from this computer only, and a password that one can
/// read aloud is worth more there than one that nobody can guess.
pub const PASSWORD: &str = "elisandra-lab";

/// How long a start may take before something is wrong. The slowest seen, with
/// other machines busy on two cores, took a third of it.
const START_LIMIT: Duration = Duration::from_secs(360);

pub struct Appliance {
    pub machine: Machine,
    /// Of this computer.
    pub page: SocketAddr,
    ssh: SocketAddr,
    key: Key,
}

impl Appliance {
    /// A machine with the ISO in its drive, off. `page_port` 0 takes a free one.
    pub fn build(
        lab: &Lab,
        iso: &Path,
        firmware: Firmware,
        disks: Vec<Disk>,
        page_port: u16,
    ) -> Result<Appliance> {
        let page = reserve(page_port)?;
        let ssh = reserve(0)?;
        let forwards = vec![Forward { local: page, port: 443 }, Forward { local: ssh, port: 22 }];
        let name = "appliance";
        let machine = lab.build(Spec {
            disks,
            nics: vec![
                Nic::plain(mac_of(name, 0), Link::Lan),
                Nic::plain(mac_of(name, 1), Link::User { forwards }),
            ],
            medium: Some(Medium::Cdrom(
                iso.canonicalize().with_context(|| format!("looking for {}", iso.display()))?,
            )),
            boot: vec![BootFrom::Medium, BootFrom::Disk],
            ..Spec::blank(name, firmware)
        })?;
        Ok(Appliance { machine, page, ssh, key: Key::in_folder(&lab.folder)? })
    }

    /// Waits until its screen tells how to reach it.
    pub fn introduction(&mut self) -> Result<Introduction> {
        let end = Instant::now() + START_LIMIT;
        loop {
            let error = match console::introduction(&self.machine.console()?) {
                Ok(introduction) => return Ok(introduction),
                Err(error) => error,
            };
            if !self.machine.is_on() || Instant::now() > end {
                let tail = self.machine.console_tail(30);
                return Err(
                    error.context(format!("the appliance did not start; its console ends with:\n{tail}"))
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Logs in over the page's port: sets the first password if there is none.
    pub fn log_in(&mut self) -> Result<Api> {
        let introduction = self.introduction()?;
        let mut api = Api::new(self.page, &introduction.ca_sha256)?;
        match introduction.one_time_code {
            Some(code) => {
                retry(START_LIMIT, || api.set_first_password(&code, PASSWORD))?;
                api.let_in(&self.key.public)?;
            }
            None => retry(START_LIMIT, || api.log_in(PASSWORD))?,
        }
        Ok(api)
    }

    /// Runs a command on the appliance as root.
    pub fn run(&self, command: &str) -> Result<String> {
        retry(Duration::from_secs(90), || self.key.run(self.ssh, command))
    }

    /// Kills the daemon as a crash would; systemd starts it again.
    pub fn kill_daemon(&self) -> Result<()> {
        let before = self.daemon_pid()?;
        self.run("systemctl kill --kill-whom=main --signal=KILL elisandra.service")?;
        retry(Duration::from_secs(60), || {
            let now = self.daemon_pid()?;
            if now == before || now == "0" {
                bail!("the appliance's daemon is not back after SIGKILL");
            }
            Ok(())
        })
    }

    fn daemon_pid(&self) -> Result<String> {
        let pid = self.run("systemctl show --property=MainPID --value elisandra.service")?;
        Ok(pid.trim().to_string())
    }
}

/// A port of this computer that nobody uses now. QEMU takes it a moment later.
pub(crate) fn reserve(port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} of this computer is needed for the lab"))?;
    Ok(listener.local_addr()?)
}

/// Tries until it succeeds or `limit` has passed; the last error counts.
pub fn retry<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(500)),
        }
    }
}

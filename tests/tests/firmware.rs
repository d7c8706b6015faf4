//! The lab itself: machines with real firmware ask the LAN for an address, are
//! switched off and on, and leave nothing behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use tests::accelerator::Accelerator;
use tests::lab::Lab;
use tests::lan::{Jack, Mac};
use tests::machine::{Firmware, Machine, Spec};

const SOON: Duration = Duration::from_secs(60);

fn diskless(lab: &Lab, name: &str, firmware: Firmware) -> Result<Machine> {
    lab.build(Spec { disks: Vec::new(), memory_mib: 512, vcpus: 1, ..Spec::blank(name, firmware) })
}

/// Waits for a DHCPDISCOVER of this machine and gives its option 93.
fn asks_as(jack: &Jack, mac: Mac) -> Result<u16> {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        let Some(frame) = jack.receive(Duration::from_millis(200)) else { continue };
        // Ethernet 14, IPv4 20, UDP 8, then BOOTP: 236 and the magic cookie.
        let is_dhcp = frame.len() > 282 && frame[12..14] == [8, 0] && frame[36..38] == [0, 67];
        if !is_dhcp || frame[6..12] != mac {
            continue;
        }
        let mut options = &frame[282..];
        while let [code, length, rest @ ..] = options {
            let Some((value, next)) = rest.split_at_checked(*length as usize) else { break };
            if let (93, [high, low]) = (*code, value) {
                return Ok(u16::from_be_bytes([*high, *low]));
            }
            options = next;
        }
    }
    bail!("no DHCPDISCOVER from {mac:02x?} within {} s", SOON.as_secs())
}

#[test]
fn machines_of_each_firmware_ask_for_an_address() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    for (name, firmware, architecture) in
        [("bios", Firmware::Bios, 0), ("uefi", Firmware::Uefi, 7), ("secure", Firmware::UefiSecureBoot, 7)]
    {
        let jack = lab.lan.jack(name);
        let mut machine = diskless(&lab, name, firmware)?;
        machine.power_on()?;
        let asked = asks_as(&jack, machine.mac()).with_context(|| machine.console_tail(20))?;
        assert_eq!(asked, architecture, "{name}");
    }
    Ok(())
}

#[test]
fn a_machine_asks_again_after_its_plug_was_pulled_and_its_log_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    let jack = lab.lan.jack("jack");
    let mut machine = diskless(&lab, "bios", Firmware::Bios)?;
    machine.power_on()?;
    asks_as(&jack, machine.mac())?;
    assert!(machine.power_on().is_err());
    machine.wait_for("iPXE", SOON)?;
    machine.power_off();
    assert!(!machine.is_on());
    while jack.receive(Duration::ZERO).is_some() {}

    machine.power_on()?;
    asks_as(&jack, machine.mac())?;
    let log = std::fs::read_to_string(machine.serial_log())?;
    assert!(log.contains("power on number 1") && log.contains("power on number 2"));
    let screen = std::fs::read(machine.screenshot()?)?;
    assert!(screen.starts_with(b"\x89PNG"));
    Ok(())
}

#[test]
fn a_second_lab_in_the_same_folder_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let _lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    let refusal = Lab::open(folder.path(), Accelerator::tcg()?).err().context("a second lab opened")?;
    assert!(refusal.to_string().starts_with("another lab is running in"), "{refusal}");
    Ok(())
}

/// Where the process below, which is this program again, tells which machine it
/// has started.
const CHILD: &str = "LAB_TEST_CHILD";

/// Does nothing unless the next test has started it as a process of its own.
#[test]
fn a_process_with_a_machine() -> Result<()> {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return Ok(()) };
    let lab = Lab::open(&folder, Accelerator::tcg()?)?;
    let mut machine = diskless(&lab, "bios", Firmware::Bios)?;
    machine.power_on()?;
    let pid = machine.pid().context("it is off")?;
    fs::write(folder.join("pid.new"), pid.to_string())?;
    fs::rename(folder.join("pid.new"), folder.join("pid"))?;
    loop {
        thread::park();
    }
}

#[test]
fn a_machine_dies_with_the_process_that_started_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_process_with_a_machine"])
        .env(CHILD, folder.path())
        // Killed, it cannot remove its folder of sockets.
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .spawn()?;
    let pid = wait_for(|| fs::read_to_string(folder.path().join("pid")).ok())?;
    let alive = Path::new("/proc").join(&pid);
    assert!(alive.exists());
    process.kill()?;
    process.wait()?;
    wait_for(|| (!alive.exists()).then_some(()))
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        if let Some(found) = look() {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("nothing within {} s", SOON.as_secs())
}

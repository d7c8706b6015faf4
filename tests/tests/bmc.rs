//! BMCs of the lab, asked as strangers ask them: by the fence agents of Debian.
//! What they say and do is what the machine's QEMU process is seen to be.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use tests::accelerator::Accelerator;
use tests::bmc::{self, Bmc, Kind};
use tests::lab::Lab;
use tests::machine::{BootFrom, Disk, Firmware, Machine, Spec};

const SOON: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
}

#[test]
fn ipmi_switches_the_machine_that_it_belongs_to() -> Result<()> {
    switches_its_machine(Kind::Ipmi)
}

#[test]
fn redfish_switches_the_machine_that_it_belongs_to() -> Result<()> {
    switches_its_machine(Kind::Redfish)
}

fn switches_its_machine(kind: Kind) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    let mut machine = lab.build(small("bios"))?;
    let bmc = Bmc::connect(kind, &machine)?;
    assert_eq!(status(&bmc, &machine)?, Power::Off);

    fence(&bmc, &machine, "on")?;
    let first = pid(&machine)?;
    assert!(runs(first));
    assert_eq!(status(&bmc, &machine)?, Power::On);

    // A host that hangs is cut off all the same.
    machine.freeze()?;
    fence(&bmc, &machine, "off")?;
    assert!(!runs(first), "the process is there although its BMC says that the machine is off");
    assert_eq!(status(&bmc, &machine)?, Power::Off);

    fence(&bmc, &machine, "on")?;
    let second = pid(&machine)?;
    assert!(second != first && runs(second));
    fence(&bmc, &machine, "reboot")?;
    let third = pid(&machine)?;
    assert!(third != second && runs(third) && !runs(second));

    // Its power goes without its BMC having a hand in it.
    let killed = Command::new("kill").args(["-KILL", &third.to_string()]).status()?;
    assert!(killed.success());
    wait_for("QEMU to be gone", || (!machine.is_on()).then_some(()))?;
    assert_eq!(status(&bmc, &machine)?, Power::Off);
    machine.power_on()?;
    assert_eq!(status(&bmc, &machine)?, Power::On);
    machine.power_off();
    assert_eq!(status(&bmc, &machine)?, Power::Off);

    let mut wrong = agent(&bmc, &machine, "status", "not-the-password");
    let refused = wrong.output()?;
    assert!(!refused.status.success() && refused.status.code() != Some(2), "{refused:?}");
    Ok(())
}

#[test]
fn a_bmc_that_lies_or_hangs_leaves_its_machine_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    let mut machine = lab.build(small("bios"))?;
    let bmc = Bmc::connect(Kind::Redfish, &machine)?;
    machine.power_on()?;
    let process = pid(&machine)?;

    bmc.lie_off();
    assert_eq!(status(&bmc, &machine)?, Power::Off);
    fence(&bmc, &machine, "off")?;
    assert!(runs(process));
    bmc.resume()?;
    assert_eq!(status(&bmc, &machine)?, Power::On);

    bmc.hang()?;
    let patient = agent(&bmc, &machine, "status", bmc::PASSWORD);
    // It would wait for ever.
    let mut asked = Command::new("timeout");
    let asked = asked.arg("3").arg(patient.get_program()).args(patient.get_args()).output()?;
    assert!(
        !asked.status.success() && asked.status.code() != Some(2),
        "a BMC that hangs is not off: {asked:?}"
    );
    assert!(runs(process));
    bmc.resume()?;
    assert_eq!(status(&bmc, &machine)?, Power::On);

    drop(machine);
    wait_for("the process to be gone", || (!runs(process)).then_some(()))
}

#[test]
fn a_machine_boots_for_once_from_where_its_bmc_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::open(folder.path(), Accelerator::tcg()?)?;
    let disks = vec![Disk::blank(1, "bios-0")];
    let boot = vec![BootFrom::Disk, BootFrom::Lan];
    let mut machine = lab.build(Spec { disks, boot, ..small("bios") })?;
    let bmc = Bmc::connect(Kind::Ipmi, &machine)?;
    let told = Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", "3", "-H", &bmc.address.ip().to_string()])
        .args(["-p", &bmc.address.port().to_string(), "-U", bmc::USER, "-P", bmc::PASSWORD])
        .args(["chassis", "bootdev", "pxe"])
        .output()
        .context("running ipmitool")?;
    ensure!(told.status.success(), "ipmitool: {}", String::from_utf8_lossy(&told.stderr));
    fence(&bmc, &machine, "on")?;
    assert_eq!(first_try(&mut machine)?, BootFrom::Lan);
    let before = machine.console()?.len();
    machine.reset()?;
    let again = wait_for("the firmware to try again", || {
        let console = machine.console().ok()?;
        tries(console.get(before..)?)
    })?;
    assert_eq!(again, BootFrom::Disk, "the second start is as usual");
    Ok(())
}

fn first_try(machine: &mut Machine) -> Result<BootFrom> {
    wait_for("the firmware to try something", || tries(&machine.console().ok()?))
}

/// What SeaBIOS says that it boots from, first.
fn tries(console: &str) -> Option<BootFrom> {
    let tried = console.split_once("Booting from ")?.1;
    match tried {
        _ if tried.starts_with("ROM") => Some(BootFrom::Lan),
        _ if tried.starts_with("Hard Disk") => Some(BootFrom::Disk),
        _ => None,
    }
}

/// Firmware and nothing to boot.
fn small(name: &str) -> Spec {
    Spec { disks: Vec::new(), memory_mib: 128, vcpus: 1, ..Spec::blank(name, Firmware::Bios) }
}

fn status(bmc: &Bmc, machine: &Machine) -> Result<Power> {
    let asked = agent(bmc, machine, "status", bmc::PASSWORD).output()?;
    match asked.status.code() {
        Some(0) => Ok(Power::On),
        Some(2) => Ok(Power::Off),
        _ => bail!("the agent does not know: {}", String::from_utf8_lossy(&asked.stderr)),
    }
}

fn fence(bmc: &Bmc, machine: &Machine, action: &str) -> Result<()> {
    let done = agent(bmc, machine, action, bmc::PASSWORD).output()?;
    ensure!(done.status.success(), "{action}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn agent(bmc: &Bmc, machine: &Machine, action: &str, password: &str) -> Command {
    let mut command = match bmc.kind {
        Kind::Ipmi => {
            let mut command = Command::new("fence_ipmilan");
            command.arg("--lanplus");
            command
        }
        Kind::Redfish => {
            let mut command = Command::new("fence_redfish");
            command.arg("--ssl-insecure");
            command.args(["--systems-uri", &format!("/redfish/v1/Systems/{}", machine.uuid)]);
            command
        }
    };
    command
        .args(["--ip", &bmc.address.ip().to_string(), "--ipport", &bmc.address.port().to_string()])
        .args(["--username", bmc::USER, "--password", password, "--action", action]);
    for (name, value) in bmc.options() {
        command.arg(format!("--{name}={value}"));
    }
    command
}

fn pid(machine: &Machine) -> Result<u32> {
    machine.pid().context("the machine is off")
}

fn runs(pid: u32) -> bool {
    // A process that has ended and was not yet collected has no memory.
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    status.is_ok_and(|status| status.contains("VmRSS"))
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        if let Some(found) = look() {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("not within {} s: {what}", SOON.as_secs())
}

//! The ISO on a machine whose only disk holds somebody's data: it becomes an
//! appliance all the same, keeps everything in memory, says so, and leaves the
//! disk alone until a person chooses in the menu that it is wiped. It boots by UEFI,
//! so that the ISO is seen to do that too.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Chapter, Story};
use crate::machine::{Bus, Contents, Disk, Firmware, Machine};
use crate::world::World;

pub const STORY: Story = Story {
    name: "memory",
    about: "the ISO on a machine whose only disk holds data",
    chapters: &[
        Chapter { name: "the ISO boots by UEFI and becomes an appliance", tell: boots },
        Chapter { name: "it says, on screen and page, that it keeps everything in memory", tell: says_so },
        Chapter { name: "the disk is as it was", tell: disk_untouched },
        Chapter { name: "chosen in the menu, the disk is wiped, and everything is kept on it", tell: wiped },
    ],
};

const MENU_LIMIT: Duration = Duration::from_secs(300);

/// The superblock, and everything that laying out a disk would write first.
const LOOKED_AT: u64 = 64 << 20;

fn boots(world: &mut World) -> Result<()> {
    let contents = Contents::Ext4 { label: "data".into() };
    let disk = Disk { size_gib: 20, serial: "precious".into(), bus: Bus::Sata, contents };
    world.build_appliance(Firmware::Uefi, vec![disk], 0)?;
    let machine = &world.appliance()?.machine;
    fs::write(before(machine), beginning(&machine.disk(0))?)?;
    world.start_appliance()
}

fn says_so(world: &mut World) -> Result<()> {
    let state = world.api()?.state()?;
    let sentence = state.daemon.memory_only.context("the page does not say that nothing is kept")?;
    let console = world.appliance()?.machine.console()?;
    ensure!(console.contains("KEPT IN MEMORY ONLY"), "the screen does not say that nothing is kept");
    ensure!(sentence.contains("data"), "the sentence does not say why: {sentence}");
    Ok(())
}

fn disk_untouched(world: &mut World) -> Result<()> {
    let machine = &mut world.appliance()?.machine;
    machine.power_off();
    let untouched = fs::read(before(machine))? == beginning(&machine.disk(0))?;
    ensure!(untouched, "the first {} MiB of the disk have changed", LOOKED_AT >> 20);
    Ok(())
}

fn wiped(world: &mut World) -> Result<()> {
    let appliance = world.appliance()?;
    let machine = &mut appliance.machine;
    machine.power_on()?;
    machine.wait_for("This machine's own disk", MENU_LIMIT)?;
    for key in ["down", "down", "ret"] {
        machine.press(key)?;
    }
    machine.wait_for("No, go back", MENU_LIMIT)?;
    for key in ["down", "ret"] {
        machine.press(key)?;
    }
    machine.wait_for("holds ext4 'data', and is WIPED in", MENU_LIMIT)?;
    let api = appliance.log_in()?;
    let kept = api.state()?.daemon.memory_only;
    ensure!(kept.is_none(), "the disk was to be wiped and used: {kept:?}");
    world.api = Some(api);
    Ok(())
}

fn before(machine: &Machine) -> PathBuf {
    machine.disk(0).with_extension("before")
}

fn beginning(disk: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(disk)?.take(LOOKED_AT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

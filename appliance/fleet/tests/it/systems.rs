//! Media and profiles, and machines that get another system than ours by its own installer.

use crate::common::{World, blank_disk, debian, disk_with, hardware};
use fleet::machine::{self, Boot, Phase};
use fleet::medium::{Family, Medium};
use fleet::profile::{self, Kind, Profile};
use fleet::site::{Adopt, Policy};
use fleet::{Command, Event, Mac, MachineId, NodeId, Subject, compact};

const MACHINE: MachineId = MachineId(1);
const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn report() -> Command {
    Command::Report { key: "k".into(), hardware: hardware(MAC, vec![blank_disk("A")]) }
}

/// m1 was found, and is adopted by nobody by itself.
fn asked() -> World {
    let mut world = World::founded();
    world.does(Command::SetPolicy {
        policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
    });
    world.does(report());
    world
}

fn install(profile: &str) -> Command {
    Command::Adopt { machine: MACHINE, wipe: false, profile: Some(profile.into()), disk: None }
}

fn serve() -> Command {
    Command::ServeAnswers { machine: MACHINE, attempt: 1 }
}

fn sentences(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::sentence).collect()
}

#[test]
fn a_machine_gets_debian_by_its_own_installer() {
    let mut world = asked();
    assert_eq!(
        world.refuses(install("debian")).to_string(),
        "there is no medium to install debian from; eli os import FILE brings Debian's netboot.tar.gz"
    );
    world.does(Command::AddMedium { medium: debian("debian-9", "9.13") });
    world.does(Command::AddMedium { medium: debian("debian-13", "13") });
    let adopted = world.does(install("debian"));
    assert!(
        adopted[0]
            .sentence()
            .starts_with("Adopted by a person; to be installed with debian from debian-13 on"),
        "{}",
        adopted[0].sentence()
    );
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover, "its disk is looked at first");
    world.refuses(serve());
    world.does(report());
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::System);
    assert!(world.does(report()).is_empty(), "it was told to restart and has not done so yet");
    world.refuses(Command::ServeKickstart { machine: MACHINE, attempt: 2 });
    world.refuses(Command::PhoneHome { machine: MACHINE, attempt: 1 });
    assert_eq!(sentences(&world.does(serve())), ["The installer fetched its answers"]);
    assert!(world.does(serve()).is_empty(), "as often as it needs them");
    world.refuses(Command::ServeAnswers { machine: MACHINE, attempt: 2 });
    assert_eq!(world.fleet.machines[&MACHINE].limit_secs(), Some(3600));
    world.does(Command::PhoneHome { machine: MACHINE, attempt: 1 });
    assert!(world.does(Command::PhoneHome { machine: MACHINE, attempt: 1 }).is_empty());
    assert_eq!(*world.phase(MACHINE), Phase::Installed);
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Disk);
    assert_eq!(
        world.refuses(serve()).to_string(),
        "the installation of host-1 that these answers were for is over"
    );
    let refusal = world.refuses(Command::Enroll { node: NodeId::Machine(MACHINE), key: "k".into() });
    assert!(refusal.to_string().contains("only our own system"), "{refusal}");

    world.clock += 10_000_000;
    let plan = world.plan();
    assert!(plan.waiting_of(Subject::Machine(MACHINE)).is_empty(), "nobody waits for a host agent");
    let removed = world.does(Command::RemoveMachine { machine: MACHINE, force: false });
    assert_eq!(removed.last().unwrap().leftovers(), ["host-1's system stays on its disk"]);
}

#[test]
fn an_installer_that_never_says_that_it_is_done_is_stopped() {
    let mut world = asked();
    world.does(Command::AddMedium { medium: debian("debian-13", "13") });
    world.does(install("debian"));
    world.does(report());
    for start in 1..=machine::MAX_ATTEMPTS {
        world.clock += 300_000;
        let served = world.does(serve());
        if start > 1 {
            let over = format!("The installer was started over and fetched its answers, start {start}");
            assert_eq!(sentences(&served), [over]);
        }
    }
    world.clock += 300_000;
    world.does(serve());
    assert!(matches!(world.phase(MACHINE), Phase::Failed { .. }), "{:?}", world.phase(MACHINE));
    assert_eq!(machine::boot(&world.fleet, MAC), Boot::Discover);
    world.does(install("debian"));
}

#[test]
fn what_is_needed_is_not_removed_and_cancelling_frees_it() {
    let mut world = asked();
    world.does(Command::AddMedium { medium: debian("debian-13", "13") });
    let mine = Profile { medium: Some("debian-13".into()), ..Profile::plain("mine", Kind::Debian) };
    world.does(Command::SetProfile { profile: mine.clone() });
    assert!(world.does(Command::SetProfile { profile: mine }).is_empty());
    world.does(install("mine"));
    let remove = |name: &str| Command::RemoveProfile { name: name.into(), force: false };
    assert_eq!(
        world.refuses(remove("mine")).to_string(),
        "host-1 is being installed with mine; cancel that first, or remove the profile by force"
    );
    let medium = Command::RemoveMedium { name: "debian-13".into(), force: false };
    world.refuses(medium.clone());
    world.does(report());
    world.does(Command::Cancel { subject: Subject::Machine(MACHINE) });
    assert_eq!(world.fleet.machines[&MACHINE].system, None);
    world.refuses(serve());
    assert_eq!(world.does(medium)[0].leftovers(), ["profile mine has no medium now"]);
    world.does(remove("mine"));
    world.refuses(remove("debian"));
}

#[test]
fn values_that_could_leave_their_place_are_refused() {
    let mut world = World::founded();
    let good = Profile::plain("mine", Kind::Kickstart);
    let wrong = [
        Profile { name: "Mine".into(), ..good.clone() },
        Profile { name: "fedora".into(), ..good.clone() },
        Profile { kind: Kind::Elisandra, ..good.clone() },
        Profile { kind: Kind::Ipxe, ..good.clone() },
        Profile { arguments: "quiet\nreboot".into(), ..good.clone() },
        Profile { arguments: "a".repeat(65536), ..good.clone() },
        Profile { language: "en US".into(), ..good.clone() },
        Profile { time_zone: "../../etc/passwd".into(), ..good.clone() },
        Profile { keyboard: "us\nreboot".into(), ..good.clone() },
        Profile { password_hash: Some("secret password".into()), ..good.clone() },
        Profile { password_hash: Some("$6$a\nreboot $aaaaaaa".into()), ..good.clone() },
        Profile { template: Some("x".repeat(profile::MAX_TEMPLATE + 1)), ..good.clone() },
    ];
    for profile in wrong {
        world.refuses(Command::SetProfile { profile });
    }
    world.does(Command::SetProfile { profile: good });
}

#[test]
fn a_disk_that_is_named_is_the_one() {
    let mut world = World::founded();
    world.does(Command::SetPolicy {
        policy: Policy { adopt: Adopt::Ask, ssh_keys: vec![], ..Default::default() },
    });
    let mut second = disk_with("B", "ext4", "data");
    second.path = "/dev/vdb".into();
    let disks = vec![blank_disk("A"), second];
    world.does(Command::Report { key: "k".into(), hardware: hardware(MAC, disks) });
    let on =
        |disk: &str, wipe| Command::Adopt { machine: MACHINE, wipe, profile: None, disk: Some(disk.into()) };
    assert!(world.refuses(on("/dev/vdb", false)).to_string().contains("wipe it?"));
    assert_eq!(world.refuses(on("C", false)).to_string(), "there is no disk C");
    world.does(on("A", false));
    assert!(matches!(world.phase(MACHINE), Phase::Adopted { disk, .. } if disk.path == "/dev/vda"));
}

#[test]
fn media_must_fit() {
    let mut world = asked();
    let disc = Medium { kernel: None, initrd: None, ..debian("dvd", "13") };
    world.does(Command::AddMedium { medium: disc.clone() });
    assert!(world.does(Command::AddMedium { medium: disc.clone() }).is_empty());
    world.refuses(Command::AddMedium { medium: Medium { bytes: 2, ..disc } });
    let from = |medium: &str| Profile {
        medium: Some(medium.into()),
        ..Profile::plain(&format!("from-{medium}"), Kind::Debian)
    };
    world.does(Command::SetProfile { profile: from("dvd") });
    let refusal = world.refuses(install("from-dvd")).to_string();
    assert!(refusal.contains("starts from a disc drive only"), "{refusal}");
    world.does(Command::AddMedium { medium: Medium { arch: "arm64".into(), ..debian("arm", "13") } });
    world.does(Command::SetProfile { profile: from("arm") });
    assert!(
        world.refuses(install("from-arm")).to_string().contains("is not a machine that arm (arm64) is for")
    );
    let ubuntu = Medium { family: Family::Ubuntu, ..debian("ubuntu", "24.04") };
    world.does(Command::AddMedium { medium: ubuntu });
    world.refuses(Command::SetProfile { profile: from("ubuntu") });
}

#[test]
fn media_and_profiles_come_back_from_a_compacted_log_and_a_snapshot() {
    let mut world = asked();
    world.does(Command::AddMedium { medium: debian("debian-13", "13") });
    world.does(Command::SetProfile { profile: Profile::plain("mine", Kind::Debian) });
    world.does(install("mine"));
    let mut again = World::default();
    for command in compact(&world.fleet) {
        again.does(command);
    }
    assert_eq!(again.fleet, world.fleet);
    let mut restore = fleet::Restore::default();
    for part in fleet::parts(&world.fleet) {
        restore.part(&part).unwrap();
    }
    assert_eq!(restore.finish().unwrap(), world.fleet);
}

use std::io::{Read, Write};

use super::*;

const GIB: u64 = 1 << 30;

fn text(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| format!("{}: {} {}\n{}", step.name, step.program, step.arguments.join(" "), step.input))
        .collect()
}

#[test]
fn the_appliances_disk_is_made_by_these_commands() {
    let layout = Layout::of_the_appliance();
    let disk = Path::new("/dev/vda");
    let placed = place(&layout, disk, 20 * GIB).unwrap();
    insta::assert_snapshot!(text(&wipe(disk, &["/dev/vda1".into(), "/dev/vda2".into()])), @"
    wiping the disk: wipefs --all --force /dev/vda1
    wiping the disk: wipefs --all --force /dev/vda2
    wiping the disk: wipefs --all --force /dev/vda
    ");
    insta::assert_snapshot!(text(&[table(disk, &placed)]), @r#"
    making the partition table: sfdisk --wipe always --wipe-partitions always --quiet /dev/vda
    label: gpt
    start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name="ELI-BIOS"
    start=2MiB, size=256MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="ELI-ESP"
    start=258MiB, size=3072MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="ELI-IMAGE"
    start=3330MiB, size=17149MiB, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, name="ELI-UNFINISHED"
    "#);
    insta::assert_snapshot!(text(&format(&layout, &placed)), @"
    making the EFI file system: mkfs.vfat -F 32 -n ELI-ESP /dev/vda2
    making a file system: mkfs.ext4 -q -F -m 0 -L ELI-IMAGE /dev/vda3
    making volumes: lvm pvcreate --yes -ff --devices /dev/vda4 /dev/vda4
    making volumes: lvm vgcreate --yes --devices /dev/vda4 elisandra /dev/vda4
    making volumes: lvm lvcreate --yes --wipesignatures y --devices /dev/vda4 --name state --extents 100%FREE elisandra
    making a file system: mkfs.ext4 -q -F -m 0 -L ELI-STATE /dev/mapper/elisandra-state
    ");
    insta::assert_snapshot!(text(&finish(disk, &placed)), @"finishing the partition table: sfdisk --no-reread --no-tell-kernel --part-label /dev/vda 4 ELI-LVM");
    let mounts: Vec<String> = file_systems(&layout, &placed)
        .into_iter()
        .map(|there| format!("{} {} {}", there.device.display(), there.kind, there.mount))
        .collect();
    assert_eq!(
        mounts,
        [
            "/dev/vda2 vfat /boot/efi",
            "/dev/vda3 ext4 /elisandra/image",
            "/dev/mapper/elisandra-state ext4 /var/lib/elisandra"
        ]
    );
}

#[test]
fn the_smallest_disk_is_large_enough_and_a_smaller_one_is_refused() {
    let layout = Layout::of_the_appliance();
    assert!(place(&layout, Path::new("/dev/vda"), SMALLEST_DISK).is_ok());
    let error = place(&layout, Path::new("/dev/vda"), 4 * GIB).unwrap_err();
    assert_eq!(error.to_string(), "the parts of the disk take 4353 MiB, but /dev/vda has 4094 MiB");
    assert!(place(&layout, Path::new("/dev/vda"), 0).is_err());
}

#[test]
fn devices_are_named_as_the_kernel_does() {
    assert_eq!(partition(Path::new("/dev/sda"), 1), Path::new("/dev/sda1"));
    assert_eq!(partition(Path::new("/dev/nvme0n1"), 4), Path::new("/dev/nvme0n1p4"));
    assert_eq!(partition(Path::new("/dev/mmcblk0"), 2), Path::new("/dev/mmcblk0p2"));
    let mut layout = Layout::of_the_appliance();
    layout.logical_volumes[0].group = "my-group".to_owned();
    assert_eq!(volume_device(&layout.logical_volumes[0]), Path::new("/dev/mapper/my--group-state"));
}

#[test]
fn a_layout_that_would_not_start_is_refused_before_the_disk_is_touched() {
    let refused = |change: fn(&mut Layout)| {
        let mut layout = Layout::of_the_appliance();
        change(&mut layout);
        place(&layout, Path::new("/dev/vda"), 20 * GIB).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|layout| layout.partitions.retain(|part| part.what != PartitionKind::BiosBoot)),
        "the layout has no BIOS boot partition, without which an installed machine does not start"
    );
    assert_eq!(
        refused(|layout| layout.partitions.retain(|part| part.what != PartitionKind::Efi)),
        "the layout has no EFI system partition, without which an installed machine does not start"
    );
    assert_eq!(
        refused(|layout| layout.partitions[2].label = None),
        "the layout has no partition labelled ELI-IMAGE, without which an installed machine does not start"
    );
    assert_eq!(
        refused(|layout| layout.logical_volumes.clear()),
        "the layout has no volume labelled ELI-STATE in the group elisandra, without which an installed machine does not start"
    );
}

/// sfdisk reads the script and makes what it says, on a file.
#[test]
fn sfdisk_takes_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(20 * GIB).unwrap();
    let placed = place(&Layout::of_the_appliance(), &disk, 20 * GIB).unwrap();
    let step = table(&disk, &placed);
    let mut command = std::process::Command::new(step.program);
    command.args(&step.arguments);
    crate::tool::run_with_input(step.name, step.limit, &mut command, &step.input).unwrap();
    let mut dump = std::process::Command::new("sfdisk");
    dump.arg("--dump").arg(&disk);
    let dump = crate::tool::run("reading", step.limit, &mut dump).unwrap();
    // 512-byte sectors: where GRUB's core.img goes.
    assert!(
        dump.contains("start=        2048, size=        2048, type=21686148-6449-6E6F-744E-656564454649"),
        "{dump}"
    );
    assert_eq!(dump.matches("start=").count(), 4, "{dump}");
    assert!(dump.contains(UNFINISHED), "{dump}");

    // GRUB's boot sector is there by now and stays.
    let boot_code: Vec<u8> = (0..0x1b8).map(|n| (n % 250) as u8).collect();
    std::fs::OpenOptions::new().write(true).open(&disk).unwrap().write_all(&boot_code).unwrap();
    for step in finish(&disk, &placed) {
        let mut command = std::process::Command::new(step.program);
        command.args(&step.arguments);
        crate::tool::run(step.name, step.limit, &mut command).unwrap();
    }
    let mut dump = std::process::Command::new("sfdisk");
    dump.arg("--dump").arg(&disk);
    let dump = crate::tool::run("reading", crate::tool::SHORT, &mut dump).unwrap();
    assert!(dump.contains("name=\"ELI-LVM\"") && !dump.contains(UNFINISHED), "{dump}");
    let mut first = [0; 0x1b8];
    std::fs::File::open(&disk).unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first[..], boot_code[..]);
}

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::tool::Why;

/// Answers as wipefs, sfdisk and lvm would.
#[derive(Default)]
struct Answers {
    signatures: BTreeMap<&'static str, &'static str>,
    partitions: BTreeMap<&'static str, usize>,
}

impl Look for Answers {
    fn signatures(&self, device: &str) -> Result<Vec<Signature>, ToolError> {
        match self.signatures.get(device).copied() {
            Some("error") => Err(failed()),
            answer => Ok(signatures(answer.unwrap_or_default())),
        }
    }

    fn partitions_in_table(&self, device: &str) -> Result<usize, ToolError> {
        self.partitions.get(device).copied().ok_or_else(failed)
    }

    fn volume_group(&self, _device: &str) -> Result<Option<String>, ToolError> {
        Ok(Some("pve".to_owned()))
    }
}

fn failed() -> ToolError {
    ToolError { step: String::new(), program: String::new(), why: Why::TimedOut(SHORT) }
}

fn device(root: &Path, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = root.join("sys/block").join(name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// What wipefs 2.41 prints for a disk with a GPT.
const GPT: &str = r#"{
   "signatures": [
      {"type": "gpt", "label": null},
      {"type": "gpt", "label": null},
      {"type": "PMBR", "label": null}
   ]
}"#;
const EXT4: &str = r#"{"signatures": [ {"type": "ext4", "label": "data"} ]}"#;

fn look_at(root: &Path, answers: &Answers) -> Vec<(String, Vec<String>)> {
    read(&Sys::at(root), answers)
        .into_iter()
        .map(|disk| {
            let contents = disk
                .contents
                .into_iter()
                .map(|content| match content.label {
                    Some(label) => format!("{} {} {label}", content.path, content.what),
                    None => format!("{} {}", content.path, content.what),
                })
                .collect();
            (disk.path, contents)
        })
        .collect()
}

#[test]
fn a_disk_is_described_from_sysfs_and_udev() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    device(
        root,
        "sda",
        &[
            ("size", "41943040\n"),
            ("dev", "8:0\n"),
            ("queue/rotational", "1\n"),
            ("removable", "0\n"),
            ("device/model", "QEMU HARDDISK   \n"),
        ],
    );
    fs::create_dir_all(root.join("run/udev/data")).unwrap();
    fs::write(
        root.join("run/udev/data/b8:0"),
        "S:disk/by-id/ata\nE:ID_SERIAL=QEMU_HARDDISK_QM1\nE:ID_SERIAL_SHORT=QM1\n",
    )
    .unwrap();
    device(root, "vda", &[("size", "20971520\n"), ("serial", "DISK7\n"), ("queue/rotational", "0\n")]);
    let links = root.join("dev/disk/by-id");
    fs::create_dir_all(&links).unwrap();
    symlink("../../sda", links.join("wwn-0x5000")).unwrap();
    symlink("../../sda", links.join("ata-QEMU_HARDDISK_QM1")).unwrap();
    symlink("../../sda1", links.join("ata-QEMU_HARDDISK_QM1-part1")).unwrap();
    symlink("../../vda", links.join("virtio-DISK7")).unwrap();

    let disks = read(&Sys::at(root), &Answers::default());
    assert_eq!(
        disks,
        [
            Disk {
                path: "/dev/sda".to_owned(),
                by_id: Some("/dev/disk/by-id/ata-QEMU_HARDDISK_QM1".to_owned()),
                serial: Some("QM1".to_owned()),
                model: Some("QEMU HARDDISK".to_owned()),
                bytes: 20 << 30,
                rotational: true,
                removable: false,
                contents: vec![]
            },
            Disk {
                path: "/dev/vda".to_owned(),
                by_id: Some("/dev/disk/by-id/virtio-DISK7".to_owned()),
                serial: Some("DISK7".to_owned()),
                model: None,
                bytes: 10 << 30,
                rotational: false,
                removable: false,
                contents: vec![]
            },
        ]
    );
}

#[test]
fn a_disk_without_a_serial_is_known_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path(), "vda", &[("size", "20971520\n")]);
    let links = dir.path().join("dev/disk/by-path");
    fs::create_dir_all(&links).unwrap();
    symlink("../../vda", links.join("pci-0000:00:03.0")).unwrap();
    symlink("../../vda", links.join("virtio-pci-0000:00:03.0")).unwrap();
    let disks = read(&Sys::at(dir.path()), &Answers::default());
    assert_eq!(disks[0].by_id.as_deref(), Some("/dev/disk/by-path/pci-0000:00:03.0"));
}

#[test]
fn a_disk_on_a_usb_cable_is_not_built_in() {
    let dir = tempfile::tempdir().unwrap();
    device(dir.path(), "sda", &[("size", "20971520\n"), ("removable", "0\n")]);
    let place = "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
    let place = dir.path().join("sys").join(place);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("size"), "20971520\n").unwrap();
    fs::write(place.join("removable"), "0\n").unwrap();
    symlink(&place, dir.path().join("sys/block/sdb")).unwrap();
    let disks = read(&Sys::at(dir.path()), &Answers::default());
    let removable: Vec<(&str, bool)> =
        disks.iter().map(|disk| (disk.path.as_str(), disk.removable)).collect();
    assert_eq!(removable, [("/dev/sda", false), ("/dev/sdb", true)]);
}

#[test]
fn what_is_no_disk_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["loop0", "ram0", "zram0", "sr0", "fd0", "dm-0", "md127", "mmcblk0boot0"] {
        device(dir.path(), name, &[("size", "2048\n")]);
    }
    device(dir.path(), "sdb", &[("size", "0\n"), ("removable", "1\n")]);
    device(dir.path(), "sdc", &[("size", "2048\n"), ("ro", "1\n")]);
    device(dir.path(), "nvme0c0n1", &[("size", "2048\n"), ("hidden", "1\n")]);
    device(dir.path(), "mmcblk0", &[("size", "2048\n")]);
    assert_eq!(look_at(dir.path(), &Answers::default()), [("/dev/mmcblk0".to_owned(), vec![])]);
}

#[test]
fn data_is_found_on_the_disk_and_on_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["vda", "vdb", "vdc", "vdd"] {
        device(dir.path(), name, &[("size", "20971520\n")]);
    }
    for part in ["vda1", "vda2", "vda3"] {
        device(dir.path(), "vda", &[(&format!("{part}/partition"), "1\n")]);
    }
    let answers = Answers {
        signatures: BTreeMap::from([
            ("/dev/vda", GPT),
            ("/dev/vda2", r#"{"signatures":[{"type":"LVM2_member","label":null}]}"#),
            ("/dev/vda3", r#"{"signatures":[{"type":"ceph_bluestore","label":null}]}"#),
            ("/dev/vdb", EXT4),
            (
                "/dev/vdc",
                r#"{"signatures":[{"type":"ext4","label":"old"},{"type":"zfs_member","label":"tank"},{"type":"zfs_member","label":"tank"}]}"#,
            ),
            ("/dev/vdd", "error"),
        ]),
        ..Answers::default()
    };
    assert_eq!(
        look_at(dir.path(), &answers),
        [
            (
                "/dev/vda".to_owned(),
                vec![
                    "/dev/vda gpt".to_owned(),
                    "/dev/vda2 LVM2_member pve".to_owned(),
                    "/dev/vda3 ceph_bluestore".to_owned()
                ]
            ),
            ("/dev/vdb".to_owned(), vec!["/dev/vdb ext4 data".to_owned()]),
            (
                "/dev/vdc".to_owned(),
                vec!["/dev/vdc ext4 old".to_owned(), "/dev/vdc zfs_member tank".to_owned()]
            ),
            ("/dev/vdd".to_owned(), vec!["/dev/vdd unreadable".to_owned()]),
        ]
    );
}

#[test]
fn a_table_without_partitions_is_blank_and_one_that_cannot_be_read_is_not() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["vda", "vdb", "vdc"] {
        device(dir.path(), name, &[("size", "20971520\n")]);
    }
    let answers = Answers {
        signatures: BTreeMap::from([("/dev/vda", GPT), ("/dev/vdb", GPT), ("/dev/vdc", GPT)]),
        // vdb: the first copy is damaged, the second lists three partitions. vdc: sfdisk fails.
        partitions: BTreeMap::from([("/dev/vda", 0), ("/dev/vdb", 3)]),
    };
    assert_eq!(
        look_at(dir.path(), &answers),
        [
            ("/dev/vda".to_owned(), vec![]),
            ("/dev/vdb".to_owned(), vec!["/dev/vdb gpt".to_owned()]),
            ("/dev/vdc".to_owned(), vec!["/dev/vdc gpt".to_owned()]),
        ]
    );
}

#[test]
fn what_an_interrupted_installation_left_is_nobodys_data() {
    let dir = tempfile::tempdir().unwrap();
    for (disk, name) in [("vda", "ELI-UNFINISHED"), ("vdb", "ELI-LVM"), ("vdc", "NOT-ELI-UNFINISHED")] {
        device(dir.path(), disk, &[("size", "20971520\n")]);
        let uevent = format!("DEVTYPE=partition\nPARTN=4\nPARTNAME={name}\n");
        let (partition, facts) = (format!("{disk}4/partition"), format!("{disk}4/uevent"));
        device(dir.path(), disk, &[(&partition, "4\n"), (&facts, &uevent)]);
    }
    let answers = Answers {
        signatures: BTreeMap::from([("/dev/vda", GPT), ("/dev/vdb", GPT), ("/dev/vdc", GPT)]),
        ..Answers::default()
    };
    assert_eq!(
        look_at(dir.path(), &answers),
        [
            ("/dev/vda".to_owned(), vec![]),
            ("/dev/vdb".to_owned(), vec!["/dev/vdb gpt".to_owned()]),
            ("/dev/vdc".to_owned(), vec!["/dev/vdc gpt".to_owned()]),
        ]
    );
}

#[test]
fn the_tools_are_understood_as_they_write() {
    assert_eq!(signatures(""), []);
    assert_eq!(signatures("\n"), []);
    assert_eq!(signatures(EXT4), [Signature { what: "ext4".to_owned(), label: Some("data".to_owned()) }]);
    assert_eq!(signatures("{\"signatures\": oops")[0].what, "unreadable");
    let dump = "label: gpt\nlabel-id: 1\ndevice: /dev/vda\nunit: sectors\nfirst-lba: 34\n\n\
                /dev/vda1 : start=        2048, size=        2048, type=21686148-6449-6E6F-744E-656564454649\n";
    assert_eq!(partitions(dump), 1);
    assert_eq!(partitions("label: gpt\nunit: sectors\n"), 0);
}

/// The same question to the real wipefs, on files.
#[test]
fn real_signatures_are_found_in_real_images() {
    let dir = tempfile::tempdir().unwrap();
    let image = |name: &str, make: &[&str]| {
        let path = dir.path().join(name);
        fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        if let Some((program, arguments)) = make.split_first() {
            tool::run("making", SHORT, Command::new(program).args(arguments).arg(&path)).unwrap();
        }
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(Wipefs.signatures(&image("blank", &[])).unwrap(), []);
    let found = Wipefs.signatures(&image("ext4", &["mkfs.ext4", "-q", "-L", "data"])).unwrap();
    assert_eq!(found, [Signature { what: "ext4".to_owned(), label: Some("data".to_owned()) }]);
    let swap = Wipefs.signatures(&image("swap", &["mkswap"])).unwrap();
    assert_eq!(swap[0].what, "swap");

    let empty_table = image("gpt", &[]);
    tool::run_with_input(
        "making",
        SHORT,
        Command::new("sfdisk").args(["--quiet", &empty_table]),
        "label: gpt\n",
    )
    .unwrap();
    let found = Wipefs.signatures(&empty_table).unwrap();
    assert!(found.iter().any(|signature| signature.what == "gpt"), "{found:?}");
    assert_eq!(Wipefs.partitions_in_table(&empty_table).unwrap(), 0);
    tool::run_with_input(
        "making",
        SHORT,
        Command::new("sfdisk").args(["--quiet", &empty_table]),
        "label: gpt\nsize=1MiB\n",
    )
    .unwrap();
    assert_eq!(Wipefs.partitions_in_table(&empty_table).unwrap(), 1);
}

//! The kickstart file: what is rendered is what is parsed, Anaconda's own validator accepts it,
//! and nothing that a machine says about itself becomes a line of it.

use crate::pykickstart;
use pxe::{
    MacAddr,
    kickstart::{DiskId, Ending, Kickstart, KickstartFacts, PartitionKind, VolumeSize, parse, render},
};

fn facts() -> KickstartFacts {
    KickstartFacts {
        title: "m1 (Dell PowerEdge R740, serial ABC)".to_owned(),
        hostname: "host-1".parse().unwrap(),
        nic: MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        disk: "/dev/disk/by-id/virtio-LAB#1".parse().unwrap(),
        image_mib: 2048,
        time_zone: "Etc/UTC".parse().unwrap(),
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA ops \"day\" #1".parse().unwrap()],
        appliance: [10, 77, 0, 1].into(),
        ca_sha256: "ab".repeat(32).parse().unwrap(),
        image_sha256: "cd".repeat(32).parse().unwrap(),
        token: "0123456789abcdef".parse().unwrap(),
    }
}

#[test]
fn the_file() {
    insta::assert_snapshot!(render(&facts()));
}

#[test]
fn what_is_rendered_is_read_back() {
    let facts = facts();
    let Kickstart {
        networks,
        ssh_keys,
        disk,
        partitions,
        volume_groups,
        logical_volumes,
        bootloader,
        image,
        post,
        ending,
        ..
    } = parse(&render(&facts)).unwrap();
    assert_eq!(networks[0].device, facts.nic);
    assert_eq!(networks[0].hostname, Some(facts.hostname));
    assert_eq!(ssh_keys[0].user, "root");
    assert_eq!(ssh_keys[0].key, facts.ssh_keys[0]);
    assert_eq!(disk, facts.disk);
    let layout: Vec<_> = partitions
        .iter()
        .map(|part| (part.what.clone(), part.size_mib, part.grow, part.label.as_deref()))
        .collect();
    assert_eq!(
        layout,
        [
            (PartitionKind::BiosBoot, 1, false, None),
            (PartitionKind::Efi, 256, false, Some("ELI-ESP")),
            (PartitionKind::Ext4 { mount: "/elisandra/image".to_owned() }, 2048, false, Some("ELI-IMAGE")),
            (PartitionKind::PhysicalVolume { name: "pv.01".to_owned() }, 1024, true, None),
        ]
    );
    assert_eq!(
        (volume_groups[0].name.as_str(), volume_groups[0].physical_volumes.as_slice()),
        ("elisandra", &["pv.01".to_owned()][..])
    );
    let state = &logical_volumes[0];
    assert_eq!(
        (state.mount.as_str(), state.name.as_str(), state.size),
        ("/var/lib/elisandra", "state", VolumeSize::Percent(100))
    );
    assert_eq!(bootloader.append, "console=tty0 console=ttyS0,115200 panic=30");
    assert_eq!(
        (image.url.as_str(), &image.sha256),
        ("http://10.77.0.1/boot/files/live.squashfs", &facts.image_sha256)
    );
    assert!(
        post[0].nochroot
            && post[0].error_on_fail
            && post[0].body.contains("echo 0123456789abcdef > $state/install-token\n")
    );
    assert_eq!(ending, Ending::Reboot);
}

#[test]
fn anaconda_accepts_it() {
    let file = tempfile::Builder::new().suffix(".ks").tempfile().unwrap();
    std::fs::write(file.path(), render(&facts())).unwrap();
    for version in ["F41", "RHEL9", "RHEL10"] {
        pykickstart::ksvalidator(version, file.path());
    }
}

#[test]
fn a_title_stays_a_comment() {
    let nasty = "Bochs\nreboot\r\n%post\necho gone\n%end\u{2028}zerombr\u{85}poweroff \"'\\";
    let rendered = render(&KickstartFacts { title: nasty.to_owned(), ..facts() });
    assert_eq!(parse(&rendered), parse(&render(&facts())));
    let file = tempfile::Builder::new().suffix(".ks").tempfile().unwrap();
    std::fs::write(file.path(), &rendered).unwrap();
    pykickstart::ksvalidator("F41", file.path());
}

/// What `parse` says about the good file after one line of it was replaced.
fn complaint(find: &str, replace: &str) -> String {
    let text = render(&facts());
    assert!(text.contains(find), "{find:?} is not in the file");
    parse(&text.replacen(find, replace, 1)).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_carried_out_is_said_with_its_line() {
    assert_eq!(
        complaint("zerombr", "autopart"),
        "kickstart line 10: \"autopart\" is not a command that this installer carries out"
    );
    assert_eq!(
        complaint("zerombr", "%include /x"),
        "kickstart line 10: \"%include\" is not a command that this installer carries out"
    );
    assert_eq!(
        complaint("--percent=100", "--percent=100 --encrypted --passphrase=x"),
        "kickstart line 18: --encrypted of logvol is not an option that this installer carries out"
    );
    assert_eq!(
        complaint("--percent=100", "--percent=101"),
        "kickstart line 18: --percent must be 1 to 100, not \"101\""
    );
    assert_eq!(
        complaint("rootpw --lock", "rootpw --plaintext hello"),
        "kickstart line 7: only rootpw --lock is carried out"
    );
    assert_eq!(complaint("--append=\"", "--append="), "kickstart line 19: a quote is not closed");
    assert_eq!(complaint("%end\n", ""), "kickstart line 23: %post has no %end");
    assert_eq!(complaint("clearpart", "# clearpart"), "kickstart line 30: there is no clearpart");
    assert_eq!(
        complaint("volgroup elisandra pv.01", "volgroup elisandra pv.02"),
        "kickstart line 17: elisandra is on pv.02, which no part before it makes"
    );
    assert_eq!(
        complaint("--size=1024 --grow", "--size=banana --grow"),
        "kickstart line 16: --size must be a number of MiB, not \"banana\""
    );
    assert_eq!(
        complaint("/elisandra/image", "/../image"),
        "kickstart line 15: \"/../image\" is not a mount point"
    );
    assert_eq!(
        complaint("liveimg --url=http:", "liveimg --url=file:"),
        "kickstart line 20: \"file://10.77.0.1/boot/files/live.squashfs\" is not an http or https URL"
    );
    let checksum = format!(" --checksum={}", "cd".repeat(32));
    assert_eq!(complaint(&checksum, ""), "kickstart line 20: liveimg needs --checksum");
}

#[test]
fn a_second_disk_is_never_touched() {
    let other: DiskId = "disk/by-id/ata-SOMEBODYS_DATA".parse().unwrap();
    let said = complaint("--grow --ondisk=\"disk/by-id/virtio-LAB#1\"", &format!("--grow --ondisk={other}"));
    assert_eq!(
        said,
        "kickstart line 16: disk/by-id/ata-SOMEBODYS_DATA is named, but an earlier line names disk/by-id/virtio-LAB#1; one file installs on one disk"
    );
    let said = complaint("--drives=\"disk/by-id/virtio-LAB#1\"", "--drives=disk/by-id/a,disk/by-id/b");
    assert_eq!(
        said,
        "kickstart line 12: \"disk/by-id/a,disk/by-id/b\" is not a disk under /dev/disk/by-id or /dev/disk/by-path"
    );
}

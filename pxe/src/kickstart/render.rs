//! Writes a host's kickstart file.

use super::{
    facts::KickstartFacts,
    words::{one_line, quote},
};

/// The labels and names are those that the initrd and GRUB look for.
pub fn render(facts: &KickstartFacts) -> String {
    let KickstartFacts {
        title,
        hostname,
        nic,
        disk,
        image_mib,
        time_zone,
        ssh_keys,
        appliance,
        ca_sha256,
        image_sha256,
        token,
    } = facts;
    let title = one_line(title);
    let disk = quote(disk.as_str());
    let time_zone = quote(time_zone.as_str());
    let ssh_keys: String =
        ssh_keys.iter().map(|key| format!("sshkey --username=root {}\n", quote(key.as_str()))).collect();
    format!(
        r#"# Elisandra installs {title}
text
lang en_US.UTF-8
keyboard us
timezone {time_zone} --utc
network --bootproto=dhcp --device={nic} --hostname={hostname} --activate
rootpw --lock
{ssh_keys}
zerombr
ignoredisk --only-use={disk}
clearpart --all --drives={disk} --initlabel --disklabel=gpt
part biosboot --fstype=biosboot --size=1 --ondisk={disk}
part /boot/efi --fstype=efi --size=256 --label=ELI-ESP --ondisk={disk}
part /elisandra/image --fstype=ext4 --size={image_mib} --label=ELI-IMAGE --ondisk={disk}
part pv.01 --size=1024 --grow --ondisk={disk}
volgroup elisandra pv.01
logvol /var/lib/elisandra --vgname=elisandra --name=state --fstype=ext4 --label=ELI-STATE --percent=100
bootloader --boot-drive={disk} --append="console=tty0 console=ttyS0,115200 panic=30"
liveimg --url=http://{appliance}/boot/files/live.squashfs --checksum={image_sha256}
reboot

%post --nochroot --erroronfail
set -eu
umask 077
state=/mnt/sysimage/var/lib/elisandra
echo host > $state/role
echo '{{"appliance":"{appliance}","ca_sha256":"{ca_sha256}"}}' > $state/node.json
echo {token} > $state/install-token
%end
"#
    )
}

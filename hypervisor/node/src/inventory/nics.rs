//! Network cards.

use fleet::Mac;
use fleet::wire::Nic;

use super::Sys;

/// Ethernet cards that belong to a device: no loopback, bridges, bonds, VLANs or wireless.
pub fn read(sys: &Sys) -> Vec<Nic> {
    sys.names("sys/class/net").into_iter().filter_map(|name| nic(sys, name)).collect()
}

fn nic(sys: &Sys, name: String) -> Option<Nic> {
    let folder = format!("sys/class/net/{name}");
    const ARPHRD_ETHER: u64 = 1;
    let ethernet = sys.number(&format!("{folder}/type")) == Some(ARPHRD_ETHER);
    if !ethernet || !sys.is_there(&format!("{folder}/device")) || sys.is_there(&format!("{folder}/wireless"))
    {
        return None;
    }
    let mac: Mac = sys.text(&format!("{folder}/address"))?.parse().ok()?;
    if mac == Mac([0; 6]) {
        return None;
    }
    Some(Nic {
        mac,
        driver: sys.link_name(&format!("{folder}/device/driver")),
        // Reading it fails while the card is off.
        carrier: sys.number(&format!("{folder}/carrier")) == Some(1),
        // -1 without a link, and on virtual cards.
        speed_mbit: sys
            .number(&format!("{folder}/speed"))
            .and_then(|speed| u32::try_from(speed).ok())
            .filter(|speed| *speed > 0 && *speed != u32::MAX),
        name,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_cards_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let card = |name: &str, files: &[(&str, &str)], driver: Option<&str>| {
            let folder = dir.path().join("sys/class/net").join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in files {
                fs::write(folder.join(file), text).unwrap();
            }
            if let Some(driver) = driver {
                fs::create_dir_all(folder.join("device")).unwrap();
                symlink(format!("../../../bus/pci/drivers/{driver}"), folder.join("device/driver")).unwrap();
            }
        };
        card("lo", &[("type", "772\n"), ("address", "00:00:00:00:00:00\n")], None);
        card("lan0", &[("type", "1\n"), ("address", "52:54:00:00:00:01\n")], None);
        card(
            "enp1s0",
            &[("type", "1\n"), ("address", "52:54:00:00:00:01\n"), ("carrier", "1\n"), ("speed", "1000\n")],
            Some("e1000e"),
        );
        card(
            "enp2s0",
            &[("type", "1\n"), ("address", "52:54:00:00:00:02\n"), ("speed", "-1\n")],
            Some("virtio_net"),
        );
        card("ib0", &[("type", "32\n"), ("address", "80:00:00:00\n")], Some("mlx5_core"));
        assert_eq!(
            read(&Sys::at(dir.path())),
            [
                Nic {
                    name: "enp1s0".to_owned(),
                    mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
                    driver: Some("e1000e".to_owned()),
                    carrier: true,
                    speed_mbit: Some(1000)
                },
                Nic {
                    name: "enp2s0".to_owned(),
                    mac: Mac([0x52, 0x54, 0, 0, 0, 2]),
                    driver: Some("virtio_net".to_owned()),
                    carrier: false,
                    speed_mbit: None
                },
            ]
        );
    }
}

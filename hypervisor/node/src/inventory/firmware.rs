//! Who made the computer and which firmware started it: SMBIOS and EFI variables.

use std::fs;

use fleet::wire::Firmware;
use uuid::Uuid;

use super::Sys;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uuid: Option<Uuid>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub board_serial: Option<String>,
}

pub fn identity(sys: &Sys) -> Identity {
    let text = |name: &str| sys.text(&format!("sys/class/dmi/id/{name}")).and_then(|text| honest(&text));
    Identity {
        uuid: text("product_uuid").and_then(|text| text.parse().ok()).filter(|uuid| is_unique(*uuid)),
        manufacturer: text("sys_vendor"),
        product: text("product_name"),
        serial: text("product_serial").filter(|serial| tells_apart(serial)),
        board_serial: text("board_serial").filter(|serial| tells_apart(serial)),
    }
}

/// UEFI with Secure Boot means that it is enforced, not only that it could be.
pub fn kind(sys: &Sys) -> Firmware {
    if !sys.is_there("sys/firmware/efi") {
        return Firmware::Bios;
    }
    // The kernel's EFI stub asked the firmware and left the answer here (Documentation/arch/x86/zero-page.rst).
    // Unlike the EFI variable it needs no file system to be mounted.
    const SECURE_BOOT: usize = 0x1ec;
    const ENABLED: u8 = 3;
    let parameters = fs::read(sys.path("sys/kernel/boot_params/data")).unwrap_or_default();
    match parameters.get(SECURE_BOOT) {
        Some(&ENABLED) => Firmware::UefiSecureBoot,
        Some(_) | None => Firmware::Uefi,
    }
}

/// What a manufacturer left in the fields he did not fill in, as found on machines in the field.
const LIES: [&str; 20] = [
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "o.e.m.",
    "oem",
    "default string",
    "system manufacturer",
    "system product name",
    "system serial number",
    "system version",
    "base board serial number",
    "serial number",
    "chassis serial number",
    "not specified",
    "not applicable",
    "not available",
    "not present",
    "none",
    "n/a",
    "unknown",
    "invalid",
];

fn honest(text: &str) -> Option<String> {
    let known_lie = LIES.contains(&text.to_ascii_lowercase().as_str());
    // A field of dots, dashes, zeros or blanks was never filled in either.
    let empty = text.chars().all(|c| matches!(c, '.' | '-' | '0' | ' ' | '*' | '_'));
    let readable = !text.chars().any(char::is_control);
    (!known_lie && !empty && readable).then(|| text.to_owned())
}

/// A serial number that a whole series shares names no machine.
fn tells_apart(serial: &str) -> bool {
    let mut chars = serial.chars();
    let Some(first) = chars.next() else { return false };
    let one_character = chars.all(|c| c == first);
    let counting = "0123456789".repeat(3).contains(serial) || "1234567890".repeat(3).contains(serial);
    // "5" alone counts as counting, but so short a serial is no serial at all.
    !one_character && !counting
}

/// RFC 9562 nil and max, and the value that AMI's sample code ships with.
fn is_unique(uuid: Uuid) -> bool {
    const AMI_SAMPLE: Uuid = Uuid::from_u128(0x03000200_0400_0500_0006_000700080009);
    !uuid.is_nil() && !uuid.is_max() && uuid != AMI_SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(files: &[(&str, &str)]) -> (tempfile::TempDir, Sys) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sys/class/dmi/id");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let sys = Sys::at(dir.path());
        (dir, sys)
    }

    #[test]
    fn an_honest_machine_is_read_as_it_says() {
        let (_dir, sys) = captured(&[
            ("sys_vendor", "Dell Inc.\n"),
            ("product_name", "PowerEdge R640\n"),
            ("product_serial", "7XK2PW2\n"),
            ("product_uuid", "4c4c4544-0058-4b10-8032-b7c04f505732\n"),
            ("board_serial", ".7XK2PW2.CNIVC0078N00A1.\n"),
        ]);
        assert_eq!(
            identity(&sys),
            Identity {
                uuid: Some(Uuid::from_u128(0x4c4c4544_0058_4b10_8032_b7c04f505732)),
                manufacturer: Some("Dell Inc.".to_owned()),
                product: Some("PowerEdge R640".to_owned()),
                serial: Some("7XK2PW2".to_owned()),
                board_serial: Some(".7XK2PW2.CNIVC0078N00A1.".to_owned()),
            }
        );
    }

    #[test]
    fn lies_are_left_out() {
        for (vendor, serial, uuid) in [
            ("To Be Filled By O.E.M.", "1234567890", "00000000-0000-0000-0000-000000000000"),
            ("System manufacturer", "System Serial Number", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("Default string", "Default string", "03000200-0400-0500-0006-000700080009"),
            ("    ", "00000000", "Not Settable"),
            ("\u{1}\u{2}", "0123456789", ""),
            ("None", "XXXXXXXX", "x"),
            ("O.E.M.", "................", "x"),
            ("N/A", "123456789", "x"),
        ] {
            let (_dir, sys) = captured(&[
                ("sys_vendor", vendor),
                ("product_name", vendor),
                ("product_serial", serial),
                ("board_serial", serial),
                ("product_uuid", uuid),
            ]);
            assert_eq!(identity(&sys), Identity::default(), "{vendor:?} {serial:?} {uuid:?}");
        }
        let (_dir, empty) = captured(&[]);
        assert_eq!(identity(&empty), Identity::default());
    }

    #[test]
    fn secure_boot_is_only_what_is_enforced() {
        let dir = tempfile::tempdir().unwrap();
        let sys = Sys::at(dir.path());
        assert_eq!(kind(&sys), Firmware::Bios);
        fs::create_dir_all(dir.path().join("sys/firmware/efi")).unwrap();
        assert_eq!(kind(&sys), Firmware::Uefi);
        let parameters = dir.path().join("sys/kernel/boot_params");
        fs::create_dir_all(&parameters).unwrap();
        for (answer, expected) in
            [(0, Firmware::Uefi), (1, Firmware::Uefi), (2, Firmware::Uefi), (3, Firmware::UefiSecureBoot)]
        {
            let mut page = vec![0; 4096];
            page[0x1ec] = answer;
            fs::write(parameters.join("data"), page).unwrap();
            assert_eq!(kind(&sys), expected);
        }
    }
}

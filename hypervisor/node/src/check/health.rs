//! What a disk says of itself: SMART, as `smartctl --json` reads it (smartmontools).

use std::path::Path;
use std::process::Command;

use fleet::wire::Health;
use serde_json::Value;

use crate::tool::{self, SHORT};

/// `None` for a disk that says nothing of itself, as those of virtual machines.
pub(super) fn of(path: &Path) -> Option<Health> {
    let mut command = Command::new("smartctl");
    command.args(["--json", "--health", "--attributes"]).arg(path);
    // Its status tells how the disk is, not whether it could be asked.
    let said = tool::said("asking a disk how it is", SHORT, &mut command).ok()?;
    read(&said)
}

fn read(json: &str) -> Option<Health> {
    let said: Value = serde_json::from_str(json).ok()?;
    let attribute = |id: u64| {
        let table = said["ata_smart_attributes"]["table"].as_array()?;
        table.iter().find(|row| row["id"] == id)?["raw"]["value"].as_u64()
    };
    let nvme = &said["nvme_smart_health_information_log"];
    let health = Health {
        passed: said["smart_status"]["passed"].as_bool(),
        power_on_hours: said["power_on_time"]["hours"].as_u64(),
        reallocated: attribute(5),
        pending: attribute(197),
        worn_percent: nvme["percentage_used"].as_u64(),
        media_errors: nvme["media_errors"].as_u64(),
    };
    (health != Health::default()).then_some(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ata_and_nvme_say_how_they_are() {
        let ata = r#"{"smartctl":{"exit_status":64},"smart_status":{"passed":true},"power_on_time":{"hours":41234},
            "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":12,"string":"12"}},{"id":197,"raw":{"value":8}}]}}"#;
        let health = read(ata).unwrap();
        assert_eq!(
            health.to_string(),
            "; SMART: passed, 41234 h running, 12 sectors replaced, 8 sectors waiting to be replaced"
        );
        let nvme = r#"{"smart_status":{"passed":false,"nvme":{"value":4}},"power_on_time":{"hours":7},
            "nvme_smart_health_information_log":{"percentage_used":104,"media_errors":3}}"#;
        let health = read(nvme).unwrap();
        assert_eq!(
            (health.passed, health.worn_percent, health.media_errors),
            (Some(false), Some(104), Some(3))
        );
    }

    #[test]
    fn a_disk_that_says_nothing_has_no_health() {
        let virtio =
            r#"{"smartctl":{"exit_status":1,"messages":[{"string":"Unable to detect device type"}]}}"#;
        assert_eq!(read(virtio), None);
        assert_eq!(read("smartctl: not found"), None);
    }
}

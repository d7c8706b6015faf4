//! What the screen tells of the appliance, and as plain text.

use std::net::IpAddr;

use fleet::machine::Phase;
use serde::{Deserialize, Serialize};

use super::addresses;
use crate::App;
use crate::config::Config;
use crate::network::Found;

/// Lines of each kind that a screen has room for.
const MACHINES: usize = 8;
const NEEDS: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// At which it can be reached, the served one last.
    pub addresses: Vec<IpAddr>,
    /// SHA-256 of the site's authority.
    pub fingerprint: String,
    /// While `admin` has no password.
    pub code: Option<String>,
    /// What is served, and what a person should know about it.
    pub network: String,
    pub warnings: Vec<String>,
    /// How many machines, hosts, VMs and services there are.
    pub counts: String,
    /// The first that are not ready.
    pub machines: Vec<(String, String)>,
    pub needs: Vec<Need>,
}

/// Something that goes on only when a person does something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub name: String,
    pub what: String,
    pub hint: String,
}

impl Status {
    pub fn of(app: &App, config: &Config, found: &Found) -> Status {
        let fleet = app.core.fleet();
        let served = found.serve.as_ref().map(|served| IpAddr::V4(served.address));
        let mut addresses = addresses();
        addresses.sort_by_key(|address| Some(*address) == served);
        let mut warnings: Vec<String> =
            app.wires.warnings().into_iter().map(|warning| format!("WARNING: {warning}")).collect();
        if let Ok(sentence) = std::fs::read_to_string(config.run.join("memory-only")) {
            warnings.push(format!("KEPT IN MEMORY ONLY: {}", sentence.trim()));
        }
        let unready = fleet.machines.values().filter(|machine| machine.phase != Phase::Ready);
        let plan = app.core.plan();
        let waiting = plan.subjects.values().flat_map(|item| &item.waiting);
        let needs = waiting.filter_map(|waiting| {
            let id = waiting.subject.to_string();
            Some(Need {
                name: fleet::name_of(&fleet, &id).unwrap_or(id),
                what: waiting.what.to_string(),
                hint: waiting.hint.as_ref()?.to_string(),
            })
        });
        Status {
            addresses,
            fingerprint: app.ca.fingerprint(),
            code: app.auth.code(),
            network: found.sentence.clone(),
            warnings,
            counts: format!(
                "{}, {} of them ready; {}; {}",
                count(fleet.machines.len(), "machine"),
                fleet.hosts.len(),
                count(fleet.vms.len(), "VM"),
                count(fleet.services.len(), "service")
            ),
            machines: unready
                .take(MACHINES)
                .map(|machine| (machine.name.to_string(), machine.phase.word().to_owned()))
                .collect(),
            needs: needs.take(NEEDS).collect(),
        }
    }

    /// For a serial port. The fingerprint and the code stand in lines of their own: programs read them, too.
    pub fn text(&self) -> String {
        let mut lines = vec!["Elisandra".to_owned(), String::new()];
        lines.extend(self.addresses.iter().map(|address| format!("Web page      https://{address}/")));
        if self.addresses.is_empty() {
            lines.push("Web page      not reachable yet: no address".to_owned());
        }
        lines.push(format!("Fingerprint   SHA256 {}", self.fingerprint));
        match &self.code {
            Some(code) => {
                lines.push(format!("One-time code {code}   (sets the first password, on the page)"))
            }
            None => lines.push("Log in with the password that was set.".to_owned()),
        }
        lines.push(String::new());
        lines.push(self.network.clone());
        lines.extend(self.warnings.iter().cloned());
        lines.push(String::new());
        lines.push(self.counts.clone());
        lines.extend(self.machines.iter().map(|(name, phase)| format!("  {name:<12} {phase}")));
        lines.join("\n") + "\n"
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_text_says_how_to_reach_it() {
        let status = Status {
            addresses: vec![[192, 168, 1, 20].into(), [10, 77, 0, 1].into()],
            fingerprint: "AA:BB".into(),
            code: Some("K7QF-2M9D".into()),
            network: "Serving 10.77.0.0/16 on lan0.".into(),
            warnings: vec!["WARNING: another server answers".into()],
            counts: "1 machine, 0 of them ready; 0 VMs; 0 services".into(),
            machines: vec![("host-1".into(), "found".into())],
            needs: Vec::new(),
        };
        insta::assert_snapshot!(status.text(), @r"
        Elisandra

        Web page      https://192.168.1.20/
        Web page      https://10.77.0.1/
        Fingerprint   SHA256 AA:BB
        One-time code K7QF-2M9D   (sets the first password, on the page)

        Serving 10.77.0.0/16 on lan0.
        WARNING: another server answers

        1 machine, 0 of them ready; 0 VMs; 0 services
          host-1       found
        ");
    }
}

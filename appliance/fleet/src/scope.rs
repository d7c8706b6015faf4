//! What a token is for: some nouns or some orders, and nothing else.
//!
//! | word | lets |
//! |---|---|
//! | `vms` | VMs be seen, and every order about them be given |
//! | `vms:read` | VMs be seen |
//! | `create_vm` | this order be given, by its word in plans |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Command, Refusal, Subject};

/// Every order that people give, and the noun that it is about. What is not here, no token with a scope can order.
#[rustfmt::skip]
const ORDERS: &[(&str, &str)] = &[
    ("adopt", "machines"), ("boot_once", "machines"), ("remove_machine", "machines"),
    ("reimage", "machines"), ("set_bmc", "machines"), ("remove_bmc", "machines"), ("pin_bmc", "machines"),
    ("find_bmc", "machines"), ("set_strip", "machines"), ("remove_strip", "machines"),
    ("power", "machines"), ("light", "machines"), ("fence", "machines"), ("attest_off", "machines"),
    ("unfence", "machines"), ("imagine_failure", "machines"),
    ("erase_machine", "machines"), ("check_disks", "machines"), ("retire", "machines"), ("unretire", "machines"),
    ("place_machine", "machines"), ("unplace_machine", "machines"),
    ("drain", "hosts"), ("undrain", "hosts"),
    ("create_vm", "vms"), ("remove_vm", "vms"), ("recover_vm", "vms"),
    ("install_package", "packages"), ("remove_package", "packages"), ("remove_service", "services"),
    ("add_rack", "racks"), ("remove_rack", "racks"),
    ("add_switch", "switches"), ("remove_switch", "switches"), ("place_switch", "switches"),
    ("unplace_switch", "switches"), ("add_ports", "switches"), ("remove_ports", "switches"),
    ("plug", "switches"), ("unplug", "switches"),
    ("set_profile", "profiles"), ("remove_profile", "profiles"),
    ("add_medium", "media"), ("remove_medium", "media"),
    ("set_subnet", "subnets"), ("remove_subnet", "subnets"),
    ("reserve", "reservations"), ("unreserve", "reservations"), ("free_address", "leases"),
    ("set_policy", "policy"),
    ("add_user", "users"), ("set_role", "users"), ("remove_user", "users"),
    ("add_tenant", "tenants"), ("set_tenant", "tenants"), ("remove_tenant", "tenants"),
];

/// What can be seen and has no orders of its own.
const SEEN: [&str; 16] = [
    "document", "events", "hash", "history", "log", "networks", "query", "sessions", "state", "timeline",
    "ports", "metrics", "support", "webhooks", "volumes", "images",
];

/// Words of what a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Vec<String>);

impl Scope {
    /// Lets nothing be done.
    pub fn nothing() -> Scope {
        Scope(Vec::new())
    }

    pub fn may_see(&self, noun: &str) -> bool {
        self.0.iter().any(|word| word == noun || word.strip_suffix(":read") == Some(noun))
    }

    /// Whether some order about `noun` may be given; which, [`Scope::may_order`] says.
    pub fn may_change(&self, noun: &str) -> bool {
        self.0.iter().any(|word| word == noun || noun_of(word) == Some(noun))
    }

    /// Whether all that is about `noun` may be done.
    pub fn has_whole(&self, noun: &str) -> bool {
        self.0.iter().any(|word| word == noun)
    }

    pub fn may_order(&self, command: &Command) -> bool {
        let word = word(command);
        let noun = match command {
            Command::Cancel { subject: Subject::Machine(_) } => Some("machines"),
            Command::Cancel { subject: Subject::Vm(_) } => Some("vms"),
            Command::Cancel { subject: Subject::Service(_) } => Some("services"),
            _ => noun_of(&word),
        };
        noun.is_some_and(|noun| self.0.iter().any(|known| known == noun || *known == word))
    }
}

/// `create_vm`
pub fn word(command: &Command) -> String {
    let json = serde_json::to_value(command).unwrap_or_default();
    json["command"].as_str().unwrap_or_default().to_owned()
}

fn noun_of(order: &str) -> Option<&'static str> {
    ORDERS.iter().find(|(word, _)| *word == order).map(|(_, noun)| *noun)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Scope, Refusal> {
        text.parse()
    }
}

impl FromStr for Scope {
    type Err = Refusal;

    /// Words with spaces or commas between them.
    fn from_str(text: &str) -> Result<Scope, Refusal> {
        let mut words: Vec<String> =
            text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        words.sort();
        words.dedup();
        if words.is_empty() {
            return Err(Refusal::Invalid("a scope names at least one thing: machines:read, vms".to_owned()));
        }
        let nouns = || ORDERS.iter().map(|(_, noun)| *noun);
        for word in &words {
            let noun = word.strip_suffix(":read").unwrap_or(word);
            let orders =
                !word.ends_with(":read") && (nouns().any(|known| known == word) || noun_of(word).is_some());
            let sees = noun != word && (nouns().any(|known| known == noun) || SEEN.contains(&noun));
            if !orders && !sees && !SEEN.contains(&word.as_str()) {
                return Err(Refusal::Invalid(format!(
                    "{word:?} is nothing that a token can be for: a noun as vms, vms:read to see only, or an order as \
                     create_vm"
                )));
            }
        }
        Ok(Scope(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmId;
    use crate::user::Role;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_noun_is_for_all_of_it_and_an_order_for_itself() {
        let cancel = Command::Cancel { subject: Subject::Vm(VmId(1)) };
        let rack = Command::AddRack { name: "r1".into(), units: 42 };
        let user = Command::AddUser { name: "eve".into(), role: Role::Admin, tenant: None };
        let vms = scope("vms, machines:read");
        assert!(vms.may_see("vms") && vms.may_see("machines") && !vms.may_see("users"));
        assert!(vms.may_change("vms") && !vms.may_change("machines"));
        assert!(vms.may_order(&cancel) && !vms.may_order(&rack) && !vms.may_order(&user));
        let racks = scope("add_rack");
        assert!(racks.may_change("racks") && !racks.may_see("racks"));
        assert!(
            racks.may_order(&rack)
                && !racks.may_order(&Command::RemoveRack { name: "r1".into(), force: false })
        );
        assert!(!Scope::nothing().may_order(&rack));
        assert_eq!(vms.to_string(), "machines:read vms");
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for wrong in ["", " ", "vmz", "vms:write", "create_vm:read", "vms:read:read", "found", "*"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
        for right in ["state:read", "query", "policy", "free_address", "vms vms"] {
            right.parse::<Scope>().unwrap();
        }
    }

    /// Said by machines and by the appliance itself, or of several nouns.
    const NO_ORDERS: &str = "cancel found sight quarantine take_back learn observe_server report record_appliance \
        booted_once serve_kickstart serve_answers phone_home fail_install enroll observe_host observe_vm_running \
        observe_vm_gone observe_answering observe_neighbour record_late restore \
        begin_strips try_login take_login end_search report_power doubt_off report_erased report_checked report_account fence_suspect suspect observe_heard";

    #[test]
    fn every_command_is_an_order_about_a_noun_or_said_by_machines() {
        let error = serde_json::from_str::<Command>(r#"{"command":"?"}"#).unwrap_err().to_string();
        let words: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(words.len() > 40, "{error}");
        for word in words {
            let known = noun_of(word).is_some() || NO_ORDERS.split_whitespace().any(|other| other == word);
            assert!(known, "{word}: what noun is this order about?");
        }
    }
}

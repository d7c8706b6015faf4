//! What a guest does next: pure, from the software that should be there and the records of what is.

use std::collections::BTreeMap;

use fleet::wire::{ConfigFile, SoftwareSpec};
use serde::{Deserialize, Serialize};

/// What is known of a piece of software on this disk. Written before the first thing is changed, so that whatever an
/// interrupted installation left behind can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub version: String,
    pub bundle_sha256: String,
    /// Debian packages that came with it.
    pub packages: Vec<String>,
    pub unit: String,
    /// Paths of configuration files that were written for it.
    pub files: Vec<String>,
    /// All packages are installed.
    pub installed: bool,
    /// The unit was started with these files; `None` until then.
    pub started_with: Option<Vec<Written>>,
}

/// A configuration file as it was when the unit was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub path: String,
    pub mode: u32,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Remove(Record),
    Install(SoftwareSpec),
    /// Writes the configuration, enables the unit and restarts it.
    Start(SoftwareSpec),
}

/// Removals first: a port or a file may pass from one piece of software to another.
pub fn plan_software(desired: &[SoftwareSpec], here: &BTreeMap<String, Record>) -> Vec<Step> {
    let mut steps: Vec<Step> = here
        .values()
        .filter(|record| !desired.iter().any(|wanted| wanted.name == record.name))
        .cloned()
        .map(Step::Remove)
        .collect();
    for wanted in desired {
        let record = here.get(&wanted.name).filter(|record| record.bundle_sha256 == wanted.bundle_sha256);
        let installed = record.is_some_and(|record| record.installed);
        if !installed {
            steps.push(Step::Install(wanted.clone()));
        }
        let started = record.is_some_and(|record| {
            record.unit == wanted.unit && record.started_with.as_ref() == Some(&written(&wanted.files))
        });
        if !(installed && started) {
            steps.push(Step::Start(wanted.clone()));
        }
    }
    steps
}

pub fn written(files: &[ConfigFile]) -> Vec<Written> {
    use sha2::{Digest, Sha256};
    let one = |file: &ConfigFile| Written {
        path: file.path.clone(),
        mode: file.mode,
        sha256: hex::encode(Sha256::digest(&file.content)),
    };
    files.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use fleet::wire::HealthCheck;

    use super::*;

    fn spec(name: &str, bundle: &str) -> SoftwareSpec {
        SoftwareSpec {
            name: name.to_owned(),
            version: "1".to_owned(),
            bundle_sha256: bundle.to_owned(),
            debs: vec!["debs/a.deb".to_owned()],
            files: vec![ConfigFile {
                path: "/etc/a.conf".to_owned(),
                mode: 0o644,
                content: "one".to_owned(),
            }],
            unit: "a.service".to_owned(),
            port: 8080,
            health: HealthCheck { path: "/health".to_owned(), status: 200 },
        }
    }

    fn record(spec: &SoftwareSpec) -> Record {
        Record {
            name: spec.name.clone(),
            version: spec.version.clone(),
            bundle_sha256: spec.bundle_sha256.clone(),
            packages: vec!["a".to_owned()],
            unit: spec.unit.clone(),
            files: vec!["/etc/a.conf".to_owned()],
            installed: true,
            started_with: Some(written(&spec.files)),
        }
    }

    fn here(records: impl IntoIterator<Item = Record>) -> BTreeMap<String, Record> {
        records.into_iter().map(|record| (record.name.clone(), record)).collect()
    }

    #[test]
    fn new_software_is_installed_and_started() {
        let hello = spec("hello", "b1");
        assert_eq!(
            plan_software(std::slice::from_ref(&hello), &here([])),
            [Step::Install(hello.clone()), Step::Start(hello)]
        );
    }

    #[test]
    fn nothing_is_done_when_all_is_as_it_should_be() {
        let hello = spec("hello", "b1");
        assert_eq!(plan_software(std::slice::from_ref(&hello), &here([record(&hello)])), []);
        assert_eq!(plan_software(&[], &here([])), []);
    }

    #[test]
    fn an_interrupted_installation_is_done_again() {
        let hello = spec("hello", "b1");
        let half = Record { installed: false, started_with: None, ..record(&hello) };
        assert_eq!(
            plan_software(std::slice::from_ref(&hello), &here([half])),
            [Step::Install(hello.clone()), Step::Start(hello.clone())]
        );
        let not_started = Record { started_with: None, ..record(&hello) };
        assert_eq!(plan_software(std::slice::from_ref(&hello), &here([not_started])), [Step::Start(hello)]);
    }

    #[test]
    fn a_changed_file_restarts_and_a_changed_bundle_installs() {
        let old = spec("hello", "b1");
        let mut configured = old.clone();
        configured.files[0].content = "two".to_owned();
        let there = here([record(&old)]);
        assert_eq!(plan_software(std::slice::from_ref(&configured), &there), [Step::Start(configured)]);
        let new = spec("hello", "b2");
        assert_eq!(
            plan_software(std::slice::from_ref(&new), &there),
            [Step::Install(new.clone()), Step::Start(new)]
        );
    }

    #[test]
    fn what_is_not_wanted_goes_first() {
        let (old, new) = (spec("old", "b1"), spec("new", "b2"));
        let steps = plan_software(std::slice::from_ref(&new), &here([record(&old)]));
        assert_eq!(steps, [Step::Remove(record(&old)), Step::Install(new.clone()), Step::Start(new)]);
    }
}

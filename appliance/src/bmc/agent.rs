//! Fence agents (the FenceAgentAPI of ClusterLabs): a program that is told what to do by lines `key=value` on its
//! standard input, and answers with its exit status.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::driver::Address;
use super::process::{Finished, Program};
use super::{BmcError, Login, Power, Settings};

/// Said by us, or a way to have the daemon run or write what it should not. The older names count, too.
const OURS: [&str; 12] = [
    "action", "option", "ip", "ipaddr", "ipport", "username", "login", "password", "passwd", "verbose",
    "debug", "delay",
];
const DANGEROUS: [&str; 5] = ["_path", "_script", "_file", "_options", "_level"];

/// Agents that are let in by a community's name.
const SNMP: [&str; 8] = [
    "fence_apc_snmp",
    "fence_cisco_mds",
    "fence_eaton_snmp",
    "fence_emerson",
    "fence_ifmib",
    "fence_intelmodular",
    "fence_ipdu",
    "fence_tripplite_snmp",
];

/// Agents wait by themselves until the machine is off: they get longer than one answer.
const ORDER_TIMES: u32 = 3;

pub(super) struct Agent {
    name: String,
    program: PathBuf,
    options: BTreeMap<String, String>,
    pub address: Address,
    login: Option<Login>,
    answer: Duration,
}

impl Agent {
    pub fn new(
        name: &str,
        options: &BTreeMap<String, String>,
        address: Address,
        login: Option<&Login>,
        settings: &Settings,
    ) -> Result<Agent, BmcError> {
        check_name(name)?;
        check_options(options)?;
        for (option, value) in login
            .into_iter()
            .flat_map(|it| [("username", it.user.as_str()), ("password", it.password.reveal())])
        {
            // It would begin a line of its own, or be taken off as the agent reads its lines.
            if value.contains(['\n', '\r', '\0']) || value != value.trim() {
                let why = "it must not begin or end with a space, nor have a line break in it";
                return Err(BmcError::AgentOption { option: option.to_owned(), why });
            }
        }
        let program = settings.agents.join(name);
        if !program.is_file() {
            let folder = settings.agents.display().to_string();
            return Err(BmcError::AgentMissing { agent: name.to_owned(), folder });
        }
        Ok(Agent {
            name: name.to_owned(),
            program,
            options: options.clone(),
            address,
            login: login.cloned(),
            answer: settings.limits.answer,
        })
    }

    pub async fn power(&self) -> Result<Power, BmcError> {
        let finished = self.run("status", self.answer).await?;
        match finished.code {
            Some(0) => Ok(Power::On),
            Some(2) => Ok(Power::Off),
            _ => Err(self.failed(&finished)),
        }
    }

    pub async fn order(&self, wanted: Power) -> Result<(), BmcError> {
        let action = match wanted {
            Power::On => "on",
            Power::Off => "off",
        };
        let finished = self.run(action, self.answer * ORDER_TIMES).await?;
        match finished.code {
            Some(0) => Ok(()),
            _ => Err(self.failed(&finished)),
        }
    }

    async fn run(&self, action: &str, limit: Duration) -> Result<Finished, BmcError> {
        let program = Program {
            path: &self.program,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            input: self.input(action),
            limit,
            address: &self.address.text,
        };
        program.run().await
    }

    fn input(&self, action: &str) -> String {
        let mut lines = format!("action={action}\nip={}\n", self.address.host);
        if let Some(port) = self.address.port {
            lines += &format!("ipport={port}\n");
        }
        match &self.login {
            // SNMP before version 3 knows no users.
            Some(login) if login.user.is_empty() && SNMP.contains(&self.name.as_str()) => {
                lines += &format!("community={}\n", login.password.reveal());
            }
            Some(login) => {
                lines += &format!("username={}\npassword={}\n", login.user, login.password.reveal());
            }
            None => {}
        }
        for (option, value) in &self.options {
            lines += &format!("{option}={value}\n");
        }
        lines
    }

    fn failed(&self, finished: &Finished) -> BmcError {
        let why = finished.why(self.login.as_ref().map(|login| &login.password));
        let address = self.address.text.clone();
        // Agents have one status for everything that fails; only some say in words that it was the password.
        let said = finished.errors.to_ascii_lowercase();
        let refused =
            ["unauthorized", "authentication fail", "invalid password", "login failed", "http code 401"];
        match &self.login {
            Some(login) if refused.iter().any(|words| said.contains(words)) => {
                BmcError::Refused { address, user: login.user.clone() }
            }
            _ => BmcError::Failed { program: self.name.clone(), address, why },
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), BmcError> {
    let letters = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match name.strip_prefix("fence_") {
        Some(rest) if letters(rest) => Ok(()),
        _ => Err(BmcError::AgentName { agent: name.to_owned() }),
    }
}

pub(super) fn check_options(options: &BTreeMap<String, String>) -> Result<(), BmcError> {
    for (option, value) in options {
        let wrong = |why| Err(BmcError::AgentOption { option: option.clone(), why });
        if option.is_empty()
            || !option.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return wrong("names have small letters, digits and _");
        }
        if OURS.contains(&option.as_str()) {
            return wrong("the appliance gives it by itself");
        }
        if DANGEROUS.iter().any(|end| option.ends_with(end)) {
            return wrong("with it the agent would run or write other files");
        }
        if value.contains(['\n', '\r', '\0']) {
            return wrong("a value is one line");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Secret;

    #[test]
    fn names_and_options_cannot_leave_their_place() {
        for good in ["fence_apc", "fence_ilo4_ssh"] {
            check_name(good).unwrap();
        }
        for wrong in
            ["", "fence_", "apc", "fence_../sh", "fence_a b", "/usr/sbin/fence_apc", "fence_APC", "fence_a\n"]
        {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        let option = |name: &str, value: &str| check_options(&[(name.to_owned(), value.to_owned())].into());
        option("plug", "3").unwrap();
        option("ssl_insecure", "1").unwrap();
        for (name, value) in [
            ("action", "on"),
            ("password", "x"),
            ("password_script", "/bin/sh"),
            ("ipmitool_path", "/bin/sh"),
            ("ssh_options", "-oProxyCommand=sh"),
            ("debug_file", "/etc/passwd"),
            ("plug", "3\naction=on"),
            ("plug\naction", "on"),
            ("Plug", "3"),
            ("", ""),
        ] {
            assert!(option(name, value).is_err(), "{name:?}={value:?}");
        }
    }

    #[test]
    fn a_password_is_one_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fence_apc"), "").unwrap();
        let settings = Settings { agents: folder.path().into(), ..Settings::default() };
        let agent = |name: &str, password: &str| {
            let login = Login { user: "admin".into(), password: Secret::new(password) };
            let address = Address::parse("[fd00::1]:8023").unwrap();
            Agent::new(name, &[("plug".to_owned(), "3".to_owned())].into(), address, Some(&login), &settings)
        };
        assert_eq!(
            agent("fence_apc", "p=#1").unwrap().input("off"),
            "action=off\nip=fd00::1\nipport=8023\nusername=admin\npassword=p=#1\nplug=3\n"
        );
        let community = Login { user: String::new(), password: Secret::new("inside") };
        let address = Address::parse("10.9.0.40").unwrap();
        std::fs::write(folder.path().join("fence_apc_snmp"), "").unwrap();
        let snmp = Agent::new("fence_apc_snmp", &BTreeMap::new(), address, Some(&community), &settings);
        assert_eq!(snmp.unwrap().input("status"), "action=status\nip=10.9.0.40\ncommunity=inside\n");
        for wrong in ["a\naction=on", "a\r", " a", "a\t"] {
            let refused = agent("fence_apc", wrong).map(drop).unwrap_err();
            assert!(refused.to_string().starts_with("the option \"password\""), "{refused}");
        }
        let missing = agent("fence_rsa", "x").map(drop).unwrap_err().to_string();
        assert!(missing.contains("install Debian's package fence-agents"), "{missing}");
    }
}

//! IPMI over LAN by `ipmitool`, for the family of `fence_ipmilan`. That agent gives the password to ipmitool as an
//! argument, where every process of the system can read it; here it is in ipmitool's environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::agent::{check_name, check_options};
use super::driver::Address;
use super::process::{Finished, Program};
use super::serial::NoLine;
use super::{BmcError, Identity, Login, Power, Serial, Settings};

/// Names of one and the same agent.
const FAMILY: [&str; 7] = [
    "fence_ipmilan",
    "fence_ipmilanplus",
    "fence_idrac",
    "fence_ilo3",
    "fence_ilo4",
    "fence_ilo5",
    "fence_imm",
];

const FLAGS: [(&str, &str); 5] =
    [("auth", "-A"), ("cipher", "-C"), ("privlvl", "-L"), ("target", "-t"), ("ipmitool_timeout", "-N")];

/// What ipmitool says when it is the name or the password that is wrong, rather than the network.
const REFUSED: [&str; 7] = [
    "rakp 2 hmac is invalid",
    "rakp 2 message has invalid",
    "unauthorized name",
    "invalid user name",
    "invalid role",
    "password invalid",
    "activate session error",
];

pub(super) struct Ipmi {
    program: PathBuf,
    connection: Vec<String>,
    pub address: Address,
    login: Login,
    answer: Duration,
}

impl Ipmi {
    pub fn is_for(agent: &str) -> bool {
        FAMILY.contains(&agent)
    }

    /// Takes the options of fence_ipmilan that say how to connect.
    pub fn new(
        agent: &str,
        options: &BTreeMap<String, String>,
        address: Address,
        login: Option<&Login>,
        settings: &Settings,
    ) -> Result<Ipmi, BmcError> {
        check_name(agent)?;
        check_options(options)?;
        let login = login.ok_or_else(|| BmcError::NoLogin { address: address.text.clone() })?;
        for (option, value) in [("username", login.user.as_str()), ("password", login.password.reveal())] {
            if value.contains('\0') {
                let why = "it must not have NUL in it";
                return Err(BmcError::AgentOption { option: option.to_owned(), why });
            }
        }
        // IPMI 1.5 sends passwords that anybody on the wire can find; it is spoken only where it is asked for.
        let old = options.get("lanplus").is_some_and(|value| value == "0");
        let interface = if old { "lan" } else { "lanplus" };
        let port = address.port.unwrap_or(623).to_string();
        // Only with -v it says that it was the login that was refused.
        let mut connection: Vec<String> =
            ["-v", "-I", interface, "-H", &address.host, "-p", &port, "-U", &login.user, "-E"]
                .map(str::to_owned)
                .into();
        for (name, value) in options {
            match FLAGS.iter().find(|(option, _)| option == name) {
                Some((_, flag)) => connection.extend([(*flag).to_owned(), value.clone()]),
                None if name == "lanplus" => {}
                None => {
                    let why = "of fence_ipmilan's options there are lanplus, auth, cipher, privlvl, target, \
                               ipmitool_timeout";
                    return Err(BmcError::AgentOption { option: name.clone(), why });
                }
            }
        }
        Ok(Ipmi {
            program: settings.ipmitool.clone(),
            connection,
            address,
            login: login.clone(),
            answer: settings.limits.answer,
        })
    }

    pub async fn power(&self) -> Result<Power, BmcError> {
        let said = self.ask(&["chassis", "power", "status"]).await?;
        read_power(&said)
            .ok_or_else(|| BmcError::unclear(&self.address.text, "the question for its power", said))
    }

    pub async fn order(&self, wanted: Power) -> Result<(), BmcError> {
        let word = match wanted {
            Power::On => "on",
            Power::Off => "off",
        };
        self.ask(&["chassis", "power", word]).await.map(drop)
    }

    pub async fn identify(&self) -> Result<Identity, BmcError> {
        let power = self.ask(&["chassis", "power", "status"]).await?;
        let mut identity = Identity { power: read_power(&power), ..Identity::default() };
        // Without a FRU or a GUID it is a BMC all the same.
        let controller = self.ask(&["mc", "info"]).await.unwrap_or_default();
        let fru = self.ask(&["fru", "print", "0"]).await.unwrap_or_default();
        let guid = self.ask(&["mc", "guid"]).await.unwrap_or_default();
        let first = |text: &str, names: &[&str]| names.iter().find_map(|name| field(text, name));
        identity.vendor = first(&fru, &["Product Manufacturer", "Board Mfg"])
            .or_else(|| first(&controller, &["Manufacturer Name"]));
        identity.model =
            first(&fru, &["Product Name", "Board Product"]).or_else(|| first(&controller, &["Product Name"]));
        identity.serial = first(&fru, &["Product Serial", "Chassis Serial", "Board Serial"]);
        identity.uuid = first(&guid, &["System GUID"]).map(|uuid| uuid.to_ascii_lowercase());
        Ok(identity)
    }

    pub async fn boot_from_network_once(&self, uefi: bool) -> Result<(), BmcError> {
        let words = ["chassis", "bootdev", "pxe", "options=efiboot"];
        self.ask(if uefi { &words } else { &words[..3] }).await.map(drop)
    }

    pub async fn light(&self, on: bool) -> Result<(), BmcError> {
        // Without `force` it goes out by itself after a quarter of a minute.
        self.ask(&["chassis", "identify", if on { "force" } else { "0" }]).await.map(drop)
    }

    pub async fn serial(&self) -> Result<Serial, BmcError> {
        let password = self.login.password.reveal();
        let opened = Serial::open(&self.program, &self.connection, password, self.answer).await;
        opened.map_err(|error| match error {
            NoLine::NotStarted(error) => {
                BmcError::NotStarted { program: "ipmitool".to_owned(), why: error.to_string() }
            }
            NoLine::Silent => {
                BmcError::Silent { address: self.address.text.clone(), secs: self.answer.as_secs() }
            }
            NoLine::Ended(output) => self.failed(&Finished { code: None, output, errors: String::new() }),
        })
    }

    async fn ask(&self, words: &[&str]) -> Result<String, BmcError> {
        let program = Program {
            path: &self.program,
            arguments: self.connection.iter().cloned().chain(words.iter().map(|w| (*w).to_owned())).collect(),
            environment: [("IPMI_PASSWORD", self.login.password.reveal().to_owned())].into(),
            input: String::new(),
            limit: self.answer,
            address: &self.address.text,
        };
        let finished = program.run().await?;
        if finished.code == Some(0) { Ok(finished.output) } else { Err(self.failed(&finished)) }
    }

    fn failed(&self, finished: &Finished) -> BmcError {
        let address = self.address.text.clone();
        let said = format!("{} {}", finished.output, finished.errors).to_ascii_lowercase();
        if REFUSED.iter().any(|words| said.contains(words)) {
            return BmcError::Refused { address, user: self.login.user.clone() };
        }
        BmcError::Failed {
            program: "ipmitool".to_owned(),
            address,
            why: finished.why(Some(&self.login.password)),
        }
    }
}

fn read_power(said: &str) -> Option<Power> {
    match said.trim().to_ascii_lowercase().strip_prefix("chassis power is ")? {
        "on" => Some(Power::On),
        "off" => Some(Power::Off),
        _ => None,
    }
}

/// The value of a line `Name   : value` that says something.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })?;
    let empty = value.is_empty() || value.starts_with("Unknown") || value.starts_with("Unspecified");
    (!empty).then(|| value.to_owned())
}

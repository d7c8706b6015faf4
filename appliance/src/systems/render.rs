//! Answers for installers, rendered from a profile's template and typed facts.
//!
//! A value never becomes a part of the language that it stands in: each is written so as that language wants it.
//! What a machine reported is data; it is never a template.

use fleet::profile::Kind;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, context};
use pxe::MacAddr;
use pxe::kickstart::{DiskId, HostName, SshKey, TimeZone};

/// Instructions of the template engine that one rendering may take, so that it ends.
const FUEL: u64 = 100_000;
const LARGEST_FILE: usize = 1 << 20;

/// What a template may ask for; docs/systems.md lists the same.
pub const FACTS: [&str; 26] = [
    "machine.name",
    "machine.domain",
    "machine.mac",
    "machine.disk",
    "machine.disk_id",
    "machine.serial",
    "machine.product",
    "profile.language",
    "profile.keyboard",
    "profile.time_zone",
    "profile.password_hash",
    "ssh_keys",
    "medium.name",
    "medium.version",
    "medium.release",
    "medium.fedora",
    "medium.errors",
    "medium.url",
    "mirror.host",
    "mirror.directory",
    "answers.url",
    "answers.done",
    "answers.failed",
    "appliance",
    "modern",
    "sections",
];

/// What answers are made from.
#[derive(Debug, Clone)]
pub struct Facts {
    pub name: HostName,
    pub domain: String,
    pub mac: MacAddr,
    pub disk: DiskId,
    /// As its firmware says it; anything.
    pub serial: String,
    /// As its firmware says it; anything.
    pub product: String,
    pub language: String,
    pub keyboard: String,
    pub time_zone: TimeZone,
    pub password_hash: Option<String>,
    pub ssh_keys: Vec<SshKey>,
    pub medium: Option<Medium>,
    /// `10.77.0.1:3142`, where the mirror is kept.
    pub mirror: String,
    /// `http://10.77.0.1/boot/answers/TOKEN`
    pub answers: String,
    pub appliance: std::net::Ipv4Addr,
}

/// What is installed from.
#[derive(Debug, Clone)]
pub struct Medium {
    pub name: String,
    pub version: String,
    pub fedora: bool,
    pub url: String,
}

impl Medium {
    fn release(&self) -> u32 {
        let digits: String = self.version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }
}

/// Why there are no answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTemplate(pub String);

/// The template that a kind has of its own.
pub fn own_template(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Debian => Some(include_str!("templates/preseed.cfg")),
        Kind::Ubuntu => Some(include_str!("templates/user-data")),
        Kind::Kickstart => Some(include_str!("templates/ks.cfg")),
        Kind::Elisandra | Kind::Ipxe | Kind::Grub => None,
    }
}

/// Renders a template with facts of a made-up machine: what does not parse, or asks for what is no fact, is refused
/// when the profile is made and not when a machine is to be installed.
pub fn try_out(kind: Kind, template: &str) -> Result<(), BadTemplate> {
    let text = |error: pxe::kickstart::Invalid| BadTemplate(error.to_string());
    let facts = Facts {
        name: "host-1".parse().map_err(text)?,
        domain: "elisandra".to_owned(),
        mac: MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        disk: "disk/by-id/ata-EXAMPLE_1".parse().map_err(text)?,
        serial: "1".to_owned(),
        product: "Example".to_owned(),
        language: "en_US.UTF-8".to_owned(),
        keyboard: "us".to_owned(),
        time_zone: "UTC".parse().map_err(text)?,
        password_hash: None,
        ssh_keys: Vec::new(),
        medium: Some(Medium {
            name: "example".to_owned(),
            version: "13".to_owned(),
            fedora: false,
            url: "http://192.0.2.1/boot/files/os/example".to_owned(),
        }),
        mirror: "192.0.2.1:3142".to_owned(),
        answers: "http://192.0.2.1/boot/answers/token".to_owned(),
        appliance: std::net::Ipv4Addr::new(192, 0, 2, 1),
    };
    render(kind, template, &facts).map(|_| ())
}

pub fn render(kind: Kind, template: &str, facts: &Facts) -> Result<String, BadTemplate> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("sh", |value: String| Value::from_safe_string(shell(&value)));
    environment.set_formatter(move |out, state, value| write(kind, out, state, value));
    let wrong = |error: &Error| {
        let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
        let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
        BadTemplate(format!("the template, {line}{}{detail}", error.kind()))
    };
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| wrong(&error))?);
    let template = environment.template_from_str(template).map_err(|error| wrong(&error))?;
    let mut unknown: Vec<String> =
        template.undeclared_variables(true).into_iter().filter(|fact| !is_fact(fact)).collect();
    unknown.sort();
    if let Some(fact) = unknown.first() {
        let facts = FACTS.join(", ");
        return Err(BadTemplate(format!(
            "the template asks for {fact}, which is not a fact; there are {facts}"
        )));
    }
    let text = template.render(values(facts)).map_err(|error| wrong(&error))?;
    if text.len() > LARGEST_FILE {
        return Err(BadTemplate("the template makes a file of more than 1 MiB".to_owned()));
    }
    Ok(text)
}

fn is_fact(name: &str) -> bool {
    FACTS.iter().any(|fact| *fact == name || fact.split('.').next() == Some(name))
        || ["range", "dict", "namespace", "debug", "loop"].contains(&name.split('.').next().unwrap_or(name))
}

fn values(facts: &Facts) -> Value {
    let release = facts.medium.as_ref().map_or(0, Medium::release);
    let fedora = facts.medium.as_ref().is_some_and(|medium| medium.fedora);
    let medium = facts.medium.as_ref().map(|medium| {
        context! {
            name => medium.name.clone(),
            version => medium.version.clone(),
            release => release,
            fedora => fedora,
            // %onerror came with Fedora 25 and Red Hat 8.
            errors => if fedora { release >= 25 } else { release >= 8 },
            url => medium.url.clone(),
        }
    });
    context! {
        machine => context! {
            name => facts.name.as_str(),
            domain => facts.domain.clone(),
            mac => facts.mac.to_string(),
            disk => facts.disk.path(),
            disk_id => facts.disk.as_str(),
            serial => facts.serial.clone(),
            product => facts.product.clone(),
        },
        profile => context! {
            language => facts.language.clone(),
            keyboard => facts.keyboard.clone(),
            time_zone => facts.time_zone.as_str(),
            password_hash => facts.password_hash.clone().unwrap_or_default(),
        },
        ssh_keys => facts.ssh_keys.iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>(),
        medium => medium,
        mirror => context! { host => facts.mirror.clone(), directory => "/debian" },
        answers => context! {
            url => facts.answers.clone(),
            done => format!("{}/done", facts.answers),
            failed => format!("{}/failed", facts.answers),
        },
        appliance => facts.appliance.to_string(),
        // Where %packages and %post have an %end.
        sections => if fedora { release >= 8 } else { release >= 6 },
        // What Anaconda's kickstart has been since Fedora 17 and Red Hat 7.
        modern => if fedora { release >= 17 } else { release >= 7 },
    }
}

fn write(kind: Kind, out: &mut Output<'_>, _state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::new(ErrorKind::BadSerialization, what));
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "a value that is not there"));
    }
    let Some(text) = value.as_str() else {
        return match value.kind() {
            ValueKind::Number | ValueKind::Bool => {
                out.write_str(&value.to_string()).map_err(|_| Error::from(ErrorKind::WriteFailure))
            }
            other => wrong(format!("{other} cannot be written; write its parts")),
        };
    };
    let written = match kind {
        // Quoted for a shell already.
        Kind::Debian | Kind::Kickstart | Kind::Ipxe | Kind::Grub if value.is_safe() => text.to_owned(),
        Kind::Debian => preseed(text),
        Kind::Ubuntu | Kind::Elisandra => yaml(text),
        Kind::Kickstart => kickstart(text),
        Kind::Ipxe | Kind::Grub => plain(text),
    };
    out.write_str(&written).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// What could end a line, for any reader of lines: control characters, and Unicode's own line ends.
fn one_line(text: &str) -> impl Iterator<Item = char> + '_ {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(move |c| if breaks(c) { ' ' } else { c })
}

/// One word of a shell's command line.
fn shell(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in one_line(text) {
        match c {
            '\'' => quoted += "'\\''",
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

/// debconf takes what is left of a line as it is. It knows no quotes; a backslash at the end would join the next line.
fn preseed(text: &str) -> String {
    one_line(text).map(|c| if c == '\\' { '/' } else { c }).collect()
}

/// A string of JSON is one of YAML 1.2, and of 1.1 if it is ASCII.
fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    quoted += &format!("\\u{unit:04x}");
                }
            }
        }
    }
    quoted + "\""
}

/// One word, as Python's shlex takes it.
fn kickstart(text: &str) -> String {
    let is_plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.:_-+=@,%$".contains(&b));
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in one_line(text) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// iPXE knows no quotes and GRUB's are its own: letters, digits and what means nothing to either.
fn plain(text: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "._:/@+=,~%-".contains(c);
    text.chars().map(|c| if good(c) { c } else { '_' }).collect()
}

//! What a manifest may say. `toml` and `serde` have seen to names and types; this sees to the values.

use std::collections::BTreeSet;

use fleet::package::{Config, Deb, Manifest};

/// Reads `manifest.toml`; the error is a sentence for its author.
pub fn parse(text: &str) -> Result<Manifest, String> {
    let manifest: Manifest = toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| {
            text.as_bytes()[..span.start.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
        });
        match place {
            Some(line) => format!("manifest.toml, line {line}: {}", error.message()),
            None => format!("manifest.toml: {}", error.message()),
        }
    })?;
    check(&manifest).map_err(|wrong| format!("manifest.toml: {wrong}"))?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.format != 1 {
        return Err(format!("format is {}; this appliance reads format 1", manifest.format));
    }
    if !fleet::is_label(&manifest.name) {
        return Err(format!(
            "name is {:?}; it may have a-z, 0-9 and - inside, at most 63 characters",
            manifest.name
        ));
    }
    if !is_version(&manifest.version) {
        return Err(format!(
            "version is {:?}; it may have 0-9, A-Z, a-z and . + ~ -, begins with a digit or letter, and has at most 64 characters",
            manifest.version
        ));
    }
    if manifest.summary.trim().is_empty()
        || manifest.summary.chars().count() > 200
        || manifest.summary.chars().any(char::is_control)
    {
        return Err("summary must be one line of 1 to 200 characters".to_owned());
    }
    let requires = &manifest.requires;
    if requires.memory_mib == 0 || requires.vcpus == 0 || requires.disk_gib == 0 {
        return Err("requires: memory_mib, vcpus and disk_gib must be at least 1".to_owned());
    }
    if manifest.nodes.min == 0 {
        return Err("nodes: min must be at least 1".to_owned());
    }
    check_debs(&manifest.debs)?;
    check_configs(&manifest.configs)?;
    check_service(manifest)
}

fn check_debs(debs: &[Deb]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for deb in debs {
        is_inside(&deb.file).map_err(|wrong| format!("deb: file {:?} {wrong}", deb.file))?;
        if !deb.file.ends_with(".deb") {
            return Err(format!("deb: file {:?} does not end in .deb", deb.file));
        }
        if !is_sha256(&deb.sha256) {
            return Err(format!("deb: sha256 of {:?} must be 64 lower-case hexadecimal digits", deb.file));
        }
        if !seen.insert(&deb.file) {
            return Err(format!("deb: {:?} is listed twice", deb.file));
        }
    }
    Ok(())
}

fn check_configs(configs: &[Config]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for config in configs {
        is_inside(&config.template)
            .map_err(|wrong| format!("config: template {:?} {wrong}", config.template))?;
        let relative = config.path.strip_prefix('/').ok_or("does not begin with /");
        relative.and_then(is_inside).map_err(|wrong| format!("config: path {:?} {wrong}", config.path))?;
        mode(config)?;
        if !seen.insert(&config.path) {
            return Err(format!("config: {:?} is written twice", config.path));
        }
    }
    Ok(())
}

fn check_service(manifest: &Manifest) -> Result<(), String> {
    let service = &manifest.service;
    if !is_unit(&service.unit) {
        return Err(format!(
            "service: unit is {:?}; it must be the plain name of a .service unit",
            service.unit
        ));
    }
    if service.port == 0 {
        return Err("service: port must be 1 to 65535".to_owned());
    }
    // Becomes the address that people click on; and the health check speaks HTTP.
    if service.protocol != "http" {
        return Err(format!("service: protocol is {:?}; format 1 knows \"http\"", service.protocol));
    }
    let health = &manifest.health;
    if !health.path.starts_with('/')
        || health.path.len() > 1024
        || !health.path.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(format!("health: path is {:?}; it must begin with / and have no spaces", health.path));
    }
    if !(100..=599).contains(&health.status) {
        return Err(format!("health: status is {}; it must be an HTTP status, 100 to 599", health.status));
    }
    Ok(())
}

/// The permissions that a configuration file gets: rwx for three, no setuid, setgid or sticky bit.
pub fn mode(config: &Config) -> Result<u32, String> {
    let octal =
        (3..=4).contains(&config.mode.len()) && config.mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(&config.mode, 8).ok().filter(|bits| octal && *bits <= 0o777);
    bits.ok_or_else(|| {
        format!("config: mode of {:?} is {:?}; it must be octal, 0000 to 0777", config.path, config.mode)
    })
}

/// A path that stays inside the folder it is taken from, in the one way to write it.
pub fn is_inside(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 255 {
        return Err("must have 1 to 255 characters");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has control characters or backslashes");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("has `..` in it");
    }
    if path.split('/').any(|part| part.is_empty() || part == ".") {
        return Err("has an empty part or `.` in it");
    }
    Ok(())
}

fn is_version(version: &str) -> bool {
    (1..=64).contains(&version.len())
        && version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~-".contains(&b))
}

fn is_unit(unit: &str) -> bool {
    unit.len() <= 255
        && unit.strip_suffix(".service").is_some_and(|name| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.@-".contains(&b))
        })
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const HELLO: &str = r#"format = 1
name = "hello"
version = "1.0.0"
summary = "Says hello"
[requires]
memory_mib = 384
vcpus = 1
disk_gib = 2
[nodes]
min = 1
[[deb]]
file = "debs/hello-web_1.0.0_all.deb"
sha256 = "DEB_SHA256"
[[config]]
template = "templates/site.conf"
path = "/etc/hello-web/site.conf"
mode = "0644"
[service]
unit = "hello-web.service"
port = 8080
protocol = "http"
[health]
path = "/health"
status = 200
"#;

    pub fn hello() -> String {
        HELLO.replace("DEB_SHA256", &"ab".repeat(32))
    }

    #[test]
    fn the_example_is_accepted_and_defaults_are_filled_in() {
        let short = hello().replace("[nodes]\nmin = 1\n", "").replace("mode = \"0644\"\n", "");
        let manifest = parse(&short).unwrap();
        assert_eq!(manifest.nodes.min, 1);
        assert_eq!(mode(&manifest.configs[0]), Ok(0o644));
        assert_eq!(manifest, parse(&hello()).unwrap());
    }

    #[test]
    fn what_the_documentation_shows_is_accepted() {
        let page = include_str!("../../../docs/eli.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(parse(example).unwrap().name, "hello");
    }

    #[test]
    fn every_wrong_value_is_refused_with_a_sentence() {
        let wrong = [
            ("format = 1", "format = 2", "format is 2; this appliance reads format 1"),
            ("name = \"hello\"", "name = \"Hello World\"", "name is \"Hello World\""),
            ("name = \"hello\"", "name = \"../x\"", "name is"),
            ("version = \"1.0.0\"", "version = \"1.0 beta\"", "version is"),
            ("version = \"1.0.0\"", "version = \"-1\"", "version is"),
            ("version = \"1.0.0\"", "version = \"\"", "version is"),
            ("summary = \"Says hello\"", "summary = \"two\\nlines\"", "summary must be"),
            (
                "summary = \"Says hello\"",
                "summary = \"Says hello\"\nauthor = \"x\"",
                "line 5: unknown field `author`",
            ),
            ("memory_mib = 384", "memory_mib = -1", "line 6: invalid value"),
            ("memory_mib = 384", "memory_mib = 0", "requires: memory_mib"),
            ("vcpus = 1", "", "missing field `vcpus`"),
            ("min = 1", "min = 0", "nodes: min"),
            ("debs/hello", "../hello", "has `..` in it"),
            ("debs/hello", "/debs/hello", "is absolute"),
            ("debs/hello", "./debs/hello", "has an empty part"),
            ("_all.deb\"", "_all.zip\"", "does not end in .deb"),
            ("sha256 = \"abab", "sha256 = \"ABAB", "64 lower-case"),
            ("templates/site.conf", "templates/../../site.conf", "has `..` in it"),
            ("\"/etc/hello-web/site.conf\"", "\"etc/site.conf\"", "does not begin with /"),
            ("\"/etc/hello-web/site.conf\"", "\"/etc/../root/.ssh/authorized_keys\"", "has `..` in it"),
            ("\"/etc/hello-web/site.conf\"", "\"/etc//site.conf\"", "has an empty part"),
            ("\"/etc/hello-web/site.conf\"", "\"/etc/site\\u0000.conf\"", "control characters"),
            ("mode = \"0644\"", "mode = \"4755\"", "it must be octal, 0000 to 0777"),
            ("mode = \"0644\"", "mode = \"rw-r--r--\"", "it must be octal"),
            ("mode = \"0644\"", "mode = \"+644\"", "it must be octal"),
            ("mode = \"0644\"", "mode = 644", "invalid type"),
            ("hello-web.service", "../hello.service", "plain name of a .service"),
            ("hello-web.service", "--now.service", "plain name of a .service"),
            ("hello-web.service", "hello web.service", "plain name of a .service"),
            ("hello-web.service", "hello-web.timer", "plain name of a .service"),
            ("port = 8080", "port = 0", "port must be"),
            ("port = 8080", "port = 70000", "invalid value"),
            ("protocol = \"http\"", "protocol = \"javascript\"", "format 1 knows \"http\""),
            ("path = \"/health\"", "path = \"health\"", "health: path"),
            ("path = \"/health\"", "path = \"/he alth\"", "health: path"),
            ("status = 200", "status = 20", "health: status"),
        ];
        for (from, to, sentence) in wrong {
            let text = hello().replacen(from, to, 1);
            assert_ne!(text, hello(), "{from}");
            let refusal = parse(&text).expect_err(to);
            assert!(refusal.contains(sentence), "{to}: {refusal}");
        }
    }

    #[test]
    fn nothing_may_be_listed_twice() {
        let text = hello();
        let config = &text[text.find("[[config]]").unwrap()..text.find("[service]").unwrap()];
        let refusal = parse(&format!("{text}{config}")).unwrap_err();
        assert!(refusal.contains("is written twice"), "{refusal}");
    }
}

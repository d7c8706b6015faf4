//! The answers for installers: those that are built in are what their installers accept, and no value, however hostile,
//! is ever more than a value.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::pykickstart;
use appliance::systems::render::{FACTS, Facts, Medium, own_template, render, try_out};
use fleet::profile::Kind;
use proptest::prelude::*;
use serde_json::Value;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8r5Yy1vT3kq7bq1yWc2y8e5b9pQmGm2h0aQK1n2m3p";

fn facts() -> Facts {
    Facts {
        name: "host-2".parse().unwrap(),
        domain: "elisandra".into(),
        mac: pxe::MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        disk: "disk/by-id/virtio-TEST-0".parse().unwrap(),
        serial: "S1".into(),
        product: "PowerEdge R640".into(),
        language: "en_US.UTF-8".into(),
        keyboard: "us".into(),
        time_zone: "Europe/Berlin".parse().unwrap(),
        password_hash: None,
        ssh_keys: vec![format!("{KEY} ada@example").parse().unwrap()],
        medium: Some(Medium {
            name: "m".into(),
            version: "43".into(),
            fedora: true,
            url: "http://10.77.0.1/boot/files/os/m".into(),
        }),
        mirror: "10.77.0.1:3142".into(),
        answers: "http://10.77.0.1/boot/answers/m2-1-abcdef0123456789".into(),
        appliance: [10, 77, 0, 1].into(),
    }
}

fn own(kind: Kind, facts: &Facts) -> String {
    render(kind, own_template(kind).unwrap(), facts).unwrap()
}

#[test]
fn the_built_in_answers() {
    let mut all = String::new();
    for kind in [Kind::Debian, Kind::Ubuntu, Kind::Kickstart] {
        try_out(kind, own_template(kind).unwrap()).unwrap();
        all += &format!("=== {kind}\n{}", own(kind, &facts()));
    }
    insta::assert_snapshot!(all);
}

/// What is looked for in the log of Debian's installer is a step that failed, and not the command itself, which the
/// log has, too.
#[test]
fn a_debian_installation_fails_only_if_its_installer_says_so() {
    let preseed = own(Kind::Debian, &facts());
    let command = preseed.lines().find(|line| line.contains("preseed/early_command")).unwrap();
    let pattern = command.split("grep -q \"").nth(1).unwrap().split('"').next().unwrap();
    let found = |line: &str| {
        let mut grep = Command::new("grep")
            .args(["-q", pattern])
            .stdin(Stdio::piped())
            .spawn()
            .expect("grep is everywhere");
        writeln!(grep.stdin.take().unwrap(), "{line}").unwrap();
        grep.wait().unwrap().success()
    };
    let log = "Nov 21 22:00:37";
    assert!(!found(&format!(
        "{log} preseed: running preseed command {}",
        command.trim_start_matches("d-i ")
    )));
    assert!(!found(&format!("{log} main-menu[328]: INFO: Menu item 'network-preseed' selected")));
    assert!(found(&format!(
        "{log} main-menu[328]: WARNING **: Configuring 'partman-base' failed with error code 141"
    )));
}

/// Every version that the validator knows, with and without keys and password.
#[test]
fn anaconda_of_every_fedora_and_red_hat_accepts_the_kickstart_file() {
    let versions = pykickstart::versions();
    assert!(versions.len() > 40, "{versions:?}");
    let mut tried = 0;
    for version in &versions {
        let (fedora, number) = match version.strip_prefix("RHEL") {
            Some(number) => (false, number),
            None => (true, version.trim_start_matches(['F', 'C'])),
        };
        let Ok(_) = number.parse::<u32>() else {
            assert_eq!(version, "DEVEL");
            continue;
        };
        let medium = facts().medium.map(|medium| Medium { version: number.to_owned(), fedora, ..medium });
        let bare = Facts { medium, ssh_keys: Vec::new(), ..facts() };
        let full = Facts {
            ssh_keys: facts().ssh_keys,
            password_hash: Some("$6$rounds=4096$saltsalt$abc./DEF".into()),
            ..bare.clone()
        };
        // The bare one differs by what it leaves out.
        let bare = (number == "46" || number == "10").then_some(bare);
        for facts in [full].into_iter().chain(bare) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(own(Kind::Kickstart, &facts).as_bytes()).unwrap();
            pykickstart::ksvalidator(version, file.path());
        }
        tried += 1;
    }
    assert!(tried > 40);
}

#[test]
fn debconf_accepts_the_preseed_file() {
    for ssh_keys in [facts().ssh_keys, Vec::new()] {
        let text = own(Kind::Debian, &Facts { ssh_keys, ..facts() });
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let output =
            Command::new("debconf-set-selections").arg("--checkonly").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            assert!(words.len() >= 3 && words[1].contains('/'), "{line}");
            // What a shell is given is a program of it.
            if words[1].ends_with("_command") {
                let parsed = Command::new("sh").args(["-n", "-c", words[3]]).status().unwrap();
                assert!(parsed.success(), "{line}");
            }
        }
    }
}

/// Subiquity itself is not on PyPI; what its reference requires is looked at here.
#[test]
fn the_autoinstall_document_is_what_ubuntu_describes() {
    for (ssh_keys, hash) in [(facts().ssh_keys, Some("$6$salt$hash".to_owned())), (Vec::new(), None)] {
        let text =
            own(Kind::Ubuntu, &Facts { ssh_keys: ssh_keys.clone(), password_hash: hash.clone(), ..facts() });
        assert!(text.starts_with("#cloud-config\n"), "cloud-init looks at the first line");
        let document: Value = serde_saphyr::from_str(&text).unwrap();
        let install = &document["autoinstall"];
        assert_eq!(install["version"], 1);
        let known = [
            "version",
            "refresh-installer",
            "locale",
            "keyboard",
            "timezone",
            "updates",
            "ssh",
            "storage",
            "early-commands",
            "late-commands",
            "error-commands",
            "user-data",
        ];
        let keys: Vec<&String> = install.as_object().unwrap().keys().collect();
        assert!(keys.iter().all(|key| known.contains(&key.as_str())), "{keys:?}");
        for commands in ["early-commands", "late-commands", "error-commands"] {
            for command in install[commands].as_array().unwrap() {
                let parsed =
                    Command::new("sh").args(["-n", "-c", command.as_str().unwrap()]).status().unwrap();
                assert!(parsed.success(), "{command}");
            }
        }
        let layout = &install["storage"]["layout"];
        assert!(["lvm", "direct", "zfs"].contains(&layout["name"].as_str().unwrap()));
        // Without `identity`, `user-data` has to be there.
        let root = &install["user-data"]["users"][0];
        assert_eq!(root["name"], "root");
        assert_eq!(root["lock_passwd"], hash.is_none());
        let keys: Vec<&str> =
            root["ssh_authorized_keys"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
        assert_eq!(keys, ssh_keys.iter().map(|key| key.as_str()).collect::<Vec<_>>());
    }
}

#[test]
fn templates_take_facts_and_nothing_else() {
    let refusal = |template: &str| try_out(Kind::Debian, template).expect_err(template).to_string();
    assert!(refusal("{{ password }}").contains("asks for password, which is not a fact"));
    assert!(refusal("{{ machine.nmae }}").contains("asks for machine.nmae"));
    assert!(refusal("\n{% if %}").contains("line 2: syntax error"));
    assert!(refusal("{% include '/etc/passwd' %}").contains("syntax error"));
    assert!(refusal("{{ machine }}").contains("cannot be written"));
    assert!(refusal("{{ machine.name | nofilter }}").contains("unknown filter"));
    assert!(
        refusal("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")
            .contains("fuel")
    );
    let all: String =
        FACTS.iter().filter(|fact| **fact != "ssh_keys").map(|fact| format!("{{{{ {fact} }}}}\n")).collect();
    for kind in Kind::ALL {
        try_out(kind, &all).unwrap();
    }
    let page = include_str!("../../../docs/systems.md");
    for fact in FACTS {
        assert!(page.contains(&format!("`{fact}`")), "docs/systems.md does not say what {fact} is");
    }
}

#[test]
fn what_a_machine_says_is_never_a_template() {
    let serial = "{{ profile.password_hash }}{% raw %}".to_owned();
    let text = render(
        Kind::Debian,
        "a/b string {{ machine.serial }}\n",
        &Facts { serial: serial.clone(), ..facts() },
    );
    assert_eq!(text.unwrap(), format!("a/b string {serial}\n"));
}

/// What is met in the field, and what somebody would try.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("\0"),
        Just("#!ipxe"),
        Just("${"),
        Just("}"),
        Just("&&"),
        Just("||"),
        Just(";"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("`"),
        Just("$("),
        Just(")"),
        Just("%end\n"),
        Just("\nreboot\n"),
        Just("{{"),
        Just("}}"),
        Just("{%"),
        Just(": "),
        Just("- "),
        Just("\u{2028}"),
        Just("\u{85}"),
        Just("\u{1f525}"),
        Just("*"),
        Just("d-i preseed/late_command string reboot"),
        Just(" "),
        Just("\t"),
        Just("@DISK@"),
        Just("x"),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn line_ends_are_spaces(text: &str) -> String {
    let breaks = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
    text.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

proptest! {
    #[test]
    fn no_value_leaves_its_line_in_a_preseed_or_kickstart_file(serial in hostile(), product in hostile()) {
        let hostile = Facts { serial, product, ..facts() };
        for kind in [Kind::Debian, Kind::Kickstart] {
            let (plain, text) = (own(kind, &facts()), own(kind, &hostile));
            prop_assert_eq!(plain.lines().count(), text.lines().count());
            for (plain, line) in plain.lines().zip(text.lines()).filter(|(plain, _)| !plain.starts_with('#')) {
                prop_assert_eq!(plain, line);
            }
            let line = render(kind, "first {{ machine.serial }}\nlast {{ machine.product }}", &hostile).unwrap();
            let mut lines = line.lines();
            prop_assert!(lines.next().unwrap().starts_with("first "));
            let last = lines.next().unwrap();
            prop_assert!(last.starts_with("last "));
            prop_assert_eq!(lines.next(), None);
            if kind == Kind::Debian {
                prop_assert!(!line.contains('\\'));
            }
        }
    }

    #[test]
    fn a_value_is_one_string_of_a_yaml_document(serial in hostile()) {
        let template = "a: {{ machine.serial }}\nb: [x, {{ machine.serial }}]\n";
        let text = render(Kind::Ubuntu, template, &Facts { serial: serial.clone(), ..facts() }).unwrap();
        let document: Value = serde_saphyr::from_str(&text).unwrap();
        prop_assert_eq!(document, serde_json::json!({ "a": serial, "b": ["x", serial] }));
    }

    #[test]
    fn boot_loaders_get_words_only(serial in hostile()) {
        for kind in [Kind::Ipxe, Kind::Grub] {
            let text = render(kind, "{{ machine.serial }}", &Facts { serial: serial.clone(), ..facts() }).unwrap();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+=,~%-".contains(&b)), "{}", text);
        }
    }
}

/// A program that gives back, as JSON, what a shell or Anaconda would take for words.
fn ask(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_shell_and_anaconda_read_a_value_as_it_was() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let cases: Vec<String> = (0..300).map(|_| hostile().new_tree(&mut runner).unwrap().current()).collect();
    let rendered = |kind, template: &str, serial: &String| {
        render(kind, template, &Facts { serial: serial.clone(), ..facts() }).unwrap()
    };
    let wanted: Vec<String> = cases.iter().map(|case| line_ends_are_spaces(case)).collect();
    for kind in [Kind::Debian, Kind::Kickstart] {
        let script: String = cases
            .iter()
            .map(|case| rendered(kind, "printf '%s\\n' {{ machine.serial | sh }}\n", case))
            .collect();
        let read = ask("sh", &[], &script);
        assert_eq!(read.lines().collect::<Vec<_>>(), wanted);
    }
    let lines: String =
        cases.iter().map(|case| rendered(Kind::Kickstart, "x --y={{ machine.serial }}\n", case)).collect();
    let program =
        "import sys, shlex, json\nprint(json.dumps([shlex.split(l) for l in sys.stdin.read().splitlines()]))";
    let read: Vec<Vec<String>> = serde_json::from_str(&ask("python3", &["-c", program], &lines)).unwrap();
    let wanted: Vec<Vec<String>> =
        wanted.iter().map(|case| vec!["x".to_owned(), format!("--y={case}")]).collect();
    assert_eq!(read, wanted);
}

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::{MacAddr, Start, System};

fn facts() -> ScriptFacts {
    ScriptFacts {
        address: [10, 77, 0, 1].into(),
        host: Host(Ipv4Addr::new(10, 77, 0, 1).into()),
        ca: "ab".repeat(32).parse().unwrap(),
        by_ipxe: false,
        image: Some("cd".repeat(32).parse().unwrap()),
    }
}

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

fn system(title: &str, start: Start) -> Boot {
    Boot::System(Arc::new(System { title: title.to_owned(), start }))
}

fn linux(title: &str, kernel: &str, initrds: &[&str], command_line: &str) -> Boot {
    let start = Start::Linux {
        kernel: kernel.to_owned(),
        initrds: initrds.iter().map(|path| (*path).to_owned()).collect(),
        command_line: command_line.parse().unwrap(),
    };
    system(title, start)
}

#[test]
fn scripts() {
    let mut all = String::new();
    for boot in [
        Boot::Discover,
        Boot::Live,
        Boot::Rescue,
        Boot::MemoryTest,
        Boot::Disk,
        linux(
            "Debian 13 installer",
            "debian/13/linux",
            &["debian/13/initrd.gz", "firmware.cpio"],
            "auto=true url=http://10.77.0.1/boot/answers/x --- quiet",
        ),
        system("A shell", Start::Efi { program: "tools/shell.efi".to_owned() }),
        system("Mine", Start::Text { ipxe: Some("#!ipxe\nshell".to_owned()), grub: None }),
    ] {
        all += &format!("=== {boot}, iPXE\n{}", ipxe(&facts(), MAC, &boot).unwrap());
        all += &format!("=== {boot}, GRUB\n{}", grub(&facts(), MAC, &boot).unwrap());
    }
    let by_ipxe = ScriptFacts { by_ipxe: true, ..facts() };
    all += &format!("=== over the network, GRUB, by iPXE\n{}", grub(&by_ipxe, MAC, &Boot::Discover).unwrap());
    all += &format!("=== GRUB's start\n{}", grub_start(facts().host));
    all += &format!("=== trouble, iPXE\n{}", ipxe_trouble(&facts(), MAC, &NoScript::Image));
    all += &format!("=== trouble, GRUB\n{}", grub_trouble(&NoScript::Loader("GRUB")));
    insta::assert_snapshot!(all);
}

#[test]
fn an_image_in_memory_needs_an_image() {
    let facts = ScriptFacts { image: None, ..facts() };
    for boot in [Boot::Live, Boot::Rescue] {
        assert_eq!(ipxe(&facts, MAC, &boot), Err(NoScript::Image));
        assert_eq!(grub(&facts, MAC, &boot), Err(NoScript::Image));
    }
    assert!(ipxe(&facts, MAC, &Boot::Discover).is_ok());
}

#[test]
fn a_text_that_the_loader_does_not_read() {
    let boot = |ipxe: Option<&str>, grub: Option<&str>| {
        system("Mine", Start::Text { ipxe: ipxe.map(str::to_owned), grub: grub.map(str::to_owned) })
    };
    // UEFI machines come to iPXE through GRUB; nothing leads the other way.
    assert!(grub(&facts(), MAC, &boot(Some("shell"), None)).unwrap().contains("snponly.efi"));
    assert_eq!(ipxe(&facts(), MAC, &boot(None, Some("halt"))), Err(NoScript::Loader("iPXE")));
    assert_eq!(grub(&facts(), MAC, &boot(None, None)), Err(NoScript::Loader("GRUB")));
    assert_eq!(ipxe(&facts(), MAC, &boot(Some("shell\n"), None)).unwrap(), "#!ipxe\nshell\n\n");
}

#[test]
fn no_value_becomes_a_command() {
    let long = "x".repeat(65_536);
    for nasty in [
        "a\nshell",
        "a\r\n#!ipxe\nshell",
        "${net0/mac}",
        "a && shell",
        "a || shell",
        "a ; shell",
        "a # b",
        "'; halt; '",
        "\"; halt; \"",
        "$(halt)",
        "`halt`",
        "\\",
        "a\0b",
        "--config=x }",
        "ä€\u{2028}b",
        long.as_str(),
    ] {
        harmless(nasty, "linux", "initrd", "quiet");
        harmless("title", nasty, "initrd", "quiet");
        harmless("title", "linux", nasty, "quiet");
        harmless("title", "linux", "initrd", nasty);
    }
}

proptest! {
    #[test]
    fn no_random_value_becomes_a_command(
        title in words(), kernel in words(), initrd in words(), command_line in words(),
    ) {
        harmless(&title, "linux", "initrd", "quiet");
        harmless(&title, &kernel, "initrd", &command_line);
        harmless("title", "linux", &initrd, &command_line);
    }
}

/// Texts with much of what means something to a loader.
fn words() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("&&"),
        Just("||"),
        Just(";"),
        Just("#"),
        Just("${"),
        Just("}"),
        Just("{"),
        Just("$"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("`"),
        Just("\n"),
        Just("\r"),
        Just("\0"),
        Just(" "),
        Just("#!ipxe"),
        Just("shell"),
        Just("halt"),
        Just("a"),
        Just("="),
        Just("."),
        Just("/"),
        Just("--"),
        Just("<"),
        Just(">"),
        Just("("),
        Just(")"),
        Just("|"),
        Just("&"),
        Just("%0a"),
        Just("é"),
    ];
    prop_oneof![prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()), any::<String>(),]
}

/// Either refused, or a script of the same commands as with plain values.
fn harmless(title: &str, kernel: &str, initrd: &str, command_line: &str) {
    let Ok(command_line) = command_line.parse::<CommandLine>() else { return };
    let (kernel, initrds) = (kernel.to_owned(), vec![initrd.to_owned()]);
    let nasty = system(title, Start::Linux { kernel, initrds, command_line });
    let plain = linux("title", "linux", &["initrd"], "quiet");
    if let Ok(script) = ipxe(&facts(), MAC, &nasty) {
        assert_eq!(ipxe_commands(&script), ipxe_commands(&ipxe(&facts(), MAC, &plain).unwrap()), "{script}");
    }
    if let Ok(script) = grub(&facts(), MAC, &nasty) {
        assert_eq!(grub_commands(&script), grub_commands(&grub(&facts(), MAC, &plain).unwrap()), "{script}");
    }
    let reason = NoScript::Path(title.to_owned());
    assert_eq!(
        ipxe_commands(&ipxe_trouble(&facts(), MAC, &reason)),
        ipxe_commands(&ipxe_trouble(&facts(), MAC, &NoScript::Image))
    );
    assert_eq!(grub_commands(&grub_trouble(&reason)), "echo Q\nsleep 30\nreboot\n");
}

/// As iPXE reads it (its core/exec.c): the first word of every command, what divides them, and what is expanded.
fn ipxe_commands(script: &str) -> Vec<String> {
    assert!(script.chars().all(|letter| letter == '\n' || (' '..='~').contains(&letter)), "{script:?}");
    let mut found = Vec::new();
    for line in script.lines() {
        let mut first = true;
        for word in line.split_ascii_whitespace() {
            let divides = ["&&", "||", ";"].contains(&word);
            if first || divides || word.starts_with('#') || word.contains("${") {
                found.push(word.to_owned());
            }
            first = divides;
        }
    }
    found
}

/// As GRUB reads it: all that stands outside of quotes, words in single quotes beside each other as one `Q`.
fn grub_commands(script: &str) -> String {
    let mut found = String::new();
    for (number, part) in script.split('\'').enumerate() {
        found += if number % 2 == 0 { part } else { "Q" };
    }
    // A quote that does not end would swallow the rest.
    assert_eq!(script.matches('\'').count() % 2, 0, "{script}");
    while found.contains("Q Q") {
        found = found.replace("Q Q", "Q");
    }
    found
}

#[test]
fn what_a_loader_fetches_comes_from_the_address_that_it_came_to() {
    let six = ScriptFacts { host: Host("fd12::a4d:1".parse::<Ipv6Addr>().unwrap().into()), ..facts() };
    let linux = linux("x", "linux", &["initrd"], "quiet");
    for boot in [Boot::Discover, Boot::Live, Boot::MemoryTest, linux] {
        let scripts = [ipxe(&six, MAC, &boot).unwrap(), grub(&six, MAC, &boot).unwrap()];
        for script in scripts {
            assert!(
                script.contains("http://[fd12::a4d:1]/")
                    || script.contains("set server='http,[fd12::a4d:1]'\n"),
                "{script}"
            );
            // IPv4 is for the system: the appliance's address on its command line.
            for line in script.lines().filter(|line| line.contains("10.77.0.1")) {
                assert!(line.contains("elisandra.appliance=10.77.0.1"), "{line}");
            }
        }
    }
    assert!(grub_start(six.host).contains("configfile ($server)/boot/$net_default_mac/grub.cfg"));
}

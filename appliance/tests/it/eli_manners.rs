//! What every command of `eli` has in common: exit codes, forms of output, questions, watching, completion, the manual.

use std::process::Stdio;
use std::time::Duration;

use crate::desk;
use crate::desk::{Desk, desk, logged_in};
use crate::example::{host, mac};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

const ELI: &str = env!("CARGO_BIN_EXE_eli");

#[tokio::test]
async fn each_exit_code_means_what_the_manual_says() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    let ends = async |arguments: &[&str], code: i32, sentence: &str| {
        let said = desk.eli(arguments).await;
        assert_eq!(said.code, code, "eli {arguments:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(sentence), "eli {arguments:?}: {}", said.err);
    };
    ends(&["machines"], 0, "").await;
    ends(&["machine", "cancel", "host-1"], 1, "nothing goes on with it").await;
    ends(&["machine", "fly"], 2, "unrecognized subcommand").await;
    ends(&["vms", "--plan"], 2, "this changes nothing, so there is nothing to plan").await;
    ends(&["vm", "create", "x", "--watch"], 2, "--watch is for what only shows something").await;
    ends(&["vms", "--token", "stale"], 3, "the session is over; eli login").await;
    ends(
        &["vms", "--server", "https://127.0.0.1:1", "--fingerprint", &"ab".repeat(32), "--token", "x"],
        4,
        "-> is it on",
    )
    .await;
    ends(&["show", "vm", "nobody"], 5, "-> eli vms shows what there is").await;
    ends(&["host", "drain", "nobody"], 5, "-> eli machines shows what there is").await;
    ends(&["vm", "create", "slow", "--wait", "--timeout", "0"], 6, "-> eli timeline NAME").await;
    ends(&["vm", "remove", "slow"], 7, "there is no terminal to ask on; --yes does it without asking").await;
    assert_eq!(desk.core().fleet().vms.len(), 1);

    let other = desk::desk().await;
    let elsewhere = other.server();
    let fingerprint = desk.site.app.ca.fingerprint();
    let there = ["vms", "--server", &elsewhere, "--fingerprint", &fingerprint, "--token", "x"];
    ends(&there, 4, "is not the appliance that is known here").await;
}

#[tokio::test]
async fn every_list_comes_as_json_yaml_names_and_a_table() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    for command in [
        ["vm", "create", "web"].as_slice(),
        &["rack", "add", "r1"],
        &["switch", "add", "sw1", "--ports", "2"],
        &["reservation", "add", "52:54:00:00:00:77", "10.77.9.9"],
    ] {
        assert_eq!(desk.eli(command).await.code, 0);
    }
    let names = [
        ("machines", "host-1\n"),
        ("hosts", "host-1\n"),
        ("vms", "web\n"),
        ("services", ""),
        ("packages", ""),
        ("registry", "web\n"),
        ("rack list", "r1\n"),
        ("switch list", "sw1\n"),
        ("os list", ""),
        ("profile list", "debian\nelisandra\nfedora\nubuntu\n"),
        ("subnet list", "site\n"),
        ("reservation list", "10.77.9.9\n"),
        ("user list", "admin\n"),
        ("query vms", "web\n"),
        ("show vm web", "web\n"),
        ("me", "admin\n"),
    ];
    for (command, expected) in names {
        let words: Vec<&str> = command.split(' ').collect();
        let with = async |output: &str| {
            let said = desk.eli(&[words.as_slice(), &["-o", output]].concat()).await;
            assert_eq!(said.code, 0, "{command} -o {output}: {}", said.err);
            said.out
        };
        assert_eq!(with("names").await, expected, "{command}");
        let json: Value = serde_json::from_str(&with("json").await).unwrap();
        let yaml: Value = serde_saphyr::from_str(&with("yaml").await).unwrap();
        let (json, yaml) = (without_ages(json), without_ages(yaml));
        assert_eq!(json, yaml, "{command}");
        assert!(!with("table").await.is_empty(), "{command}");
    }
    for command in
        ["lease list", "session list", "timeline site", "history", "state", "policy", "history show 1"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        let yaml = desk.eli(&[words.as_slice(), &["-o", "yaml"]].concat()).await.out;
        serde_saphyr::from_str::<Value>(&yaml).unwrap_or_else(|error| panic!("{command}: {error}: {yaml}"));
    }
}

/// Some seconds may lie between two answers.
fn without_ages(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| name != "age");
            Value::Object(kept.map(|(name, value)| (name, without_ages(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_ages).collect()),
        other => other,
    }
}

#[tokio::test]
async fn what_destroys_is_shown_and_asked_for_on_a_terminal() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    desk.eli(&["vm", "create", "web"]).await;
    let planned = desk.eli(&["vm", "remove", "web", "--plan"]).await;
    assert!(
        planned.out.contains("Would do    web: ") && planned.out.contains("eli apply "),
        "{}",
        planned.out
    );

    let no = on_a_terminal(&desk, "vm remove web", "n\n").await;
    assert!(no.contains("Would do    web: ") && no.contains("Do this? [y/N]"), "{no}");
    assert!(no.contains("eli: nothing was done") && no.contains("ended with 7"), "{no}");
    assert_eq!(desk.core().fleet().vms.len(), 1);
    let yes = on_a_terminal(&desk, "vm remove web", "y\n").await;
    assert!(yes.contains("ended with 0"), "{yes}");
    let fleet = desk.core().fleet();
    let gone = fleet.vms.values().all(|vm| vm.phase == fleet::vm::Phase::Removing);
    assert!(gone, "{yes}");
    let missing = on_a_terminal(&desk, "vm remove nobody", "y\n").await;
    assert!(missing.contains("there is no VM nobody") && missing.contains("ended with 5"), "{missing}");
}

/// What is seen on a terminal where `eli` is called and `typed` is typed.
async fn on_a_terminal(desk: &Desk, command: &str, typed: &str) -> String {
    let line = format!("{ELI} {command}; echo ended with $?");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("XDG_CONFIG_HOME", desk.dir.path().join("home"))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut typing = terminal.stdin.take().unwrap();
    typing.write_all(typed.as_bytes()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), terminal.wait_with_output()).await;
    let output = ended.expect("it did not end").unwrap();
    drop(typing);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn watching_shows_what_has_changed_and_outlives_a_restart() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    let mut watching = Command::new(ELI)
        .args(["vms", "--watch", "-o", "names"])
        .env_clear()
        .env("XDG_CONFIG_HOME", desk.dir.path().join("home"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for name in ["first", "second"] {
        assert_eq!(desk.eli(&["vm", "create", name]).await.code, 0);
        let seen = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line == name {
                    return true;
                }
            }
            false
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        assert!(seen.unwrap_or(false), "{name} was not shown");
    }
    // It goes on until somebody ends it.
    assert!(watching.try_wait().unwrap().is_none());
    watching.kill().await.unwrap();
}

#[tokio::test]
async fn names_are_completed_from_the_appliance() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    host(desk.core(), mac(2)).await;
    desk.eli(&["vm", "create", "web"]).await;
    let asked = async |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let environment =
            [("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", index.as_str()), ("_CLAP_IFS", "\n")];
        desk.eli_with(&[&["--"], words].concat(), &environment).await.out
    };
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(asked(&["eli", "machine", "remove", "h"]).await), ["host-1", "host-2"]);
    assert_eq!(lines(asked(&["eli", "vm", "remove", "w"]).await), ["web"]);
    assert_eq!(lines(asked(&["eli", "timeline", "w"]).await), ["web"]);
    assert!(lines(asked(&["eli", "mach"]).await).contains(&"machines".to_owned()));

    // An appliance that is not there costs a moment and no noise.
    std::fs::remove_file(desk.settings()).unwrap();
    assert_eq!(asked(&["eli", "machine", "remove", "h"]).await.trim(), "");
}

#[tokio::test]
async fn shells_read_what_completion_prints_and_man_reads_the_manual() {
    let desk = desk().await;
    for shell in ["bash", "zsh", "fish"] {
        let said = desk.eli(&["completion", shell]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(said.out.contains("COMPLETE"), "{}", said.out);
    }
    let script = desk.file("completion", desk.eli(&["completion", "bash"]).await.out.as_bytes());
    let read = Command::new("bash").args(["-n", &script]).output().await.unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));

    let page = desk.eli(&["man"]).await.out;
    let page = desk.file("eli.1", page.as_bytes());
    let shown =
        Command::new("groff").args(["-man", "-Kutf8", "-Tutf8", "-ww", "-z", &page]).output().await.unwrap();
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
}

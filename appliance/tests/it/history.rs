//! `eli` on the log: told, compacted, exported, replayed in memory and into a rehearsal; plans and documents.

use std::path::Path;

use crate::desk::{Desk, logged_in, serving};
use crate::example::{bundle, host, join, mac, rehearsal, report, until};
use fleet::vm;

async fn busy() -> Desk {
    let desk = logged_in().await;
    let machine = host(desk.core(), mac(1)).await;
    report(desk.core(), mac(3), true).await;
    let file = desk.file("hello.eli", &bundle("hello", 512));
    desk.says(&["install", &file, "--no-wait"]).await;
    desk.says(&["vm", "create", "web", "--memory", "1024"]).await;
    desk.says(&["vm", "create", "gone"]).await;
    join(desk.core(), machine).await;
    until(desk.core(), |fleet| fleet.vms.values().all(|vm| vm.phase == vm::Phase::Running)).await;
    desk.says(&["vm", "delete", "--yes", "gone"]).await;
    desk.says(&["policy", "--ask"]).await;
    desk
}

impl Desk {
    /// What `eli` prints when it does what it was told.
    async fn says(&self, arguments: &[&str]) -> String {
        let said = self.eli(arguments).await;
        assert_eq!(said.code, 0, "eli {arguments:?}: {}{}", said.out, said.err);
        said.out
    }

    async fn refuses(&self, arguments: &[&str]) -> String {
        let said = self.eli(arguments).await;
        assert_eq!(said.code, 1, "eli {arguments:?}: {}", said.out);
        said.err
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[tokio::test]
async fn the_log_is_told_compacted_and_replayed() {
    let desk = busy().await;
    let told = desk.says(&["history", "--limit", "500"]).await;
    assert!(told.contains("Founded; serves 10.77.0.0/16"), "{told}");
    assert!(told.contains("web (v2)"), "{told}");
    let full = desk.says(&["history", "show", "1"]).await;
    assert!(full.contains("\"command\": \"found\""), "{full}");

    let state = desk.says(&["state"]).await;
    let hash = state.rsplit(' ').next().unwrap().trim().to_owned();
    assert_eq!(hash.len(), 64);
    let position = desk.core().position();
    assert_eq!(state, format!("Position {position}, state {hash}\n"));
    assert_ne!(desk.says(&["state", "--at", "1"]).await, state);

    let in_memory = desk.says(&["replay"]).await;
    assert!(in_memory.ends_with(&format!("State {hash}\n")), "{in_memory}");
    assert!(in_memory.contains(&format!("came to {position} events, as they are in the log")), "{in_memory}");

    let (long, short) = (desk.dir.path().join("long"), desk.dir.path().join("short"));
    desk.says(&["history", "export", "--out", long.to_str().unwrap()]).await;
    let compacted = desk.eli(&["history", "compact", "--out", short.to_str().unwrap()]).await;
    assert_eq!(compacted.code, 0, "{}", compacted.err);
    assert_eq!(compacted.err.matches(&hash).count(), 2, "{}", compacted.err);
    assert!((lines(&short) as i64) < position, "{} and {position}", lines(&short));
    let replayed = desk.says(&["replay", short.to_str().unwrap()]).await;
    assert!(replayed.ends_with(&format!("State {hash}\n")), "{replayed}");

    let text = std::fs::read_to_string(&long).unwrap();
    let other = text.replace("\"memory_mib\":1024", "\"memory_mib\":2048");
    std::fs::write(&long, other).unwrap();
    let differs = desk.refuses(&["replay", long.to_str().unwrap()]).await;
    assert!(differs.contains("this version decides differently from the log"), "{differs}");
}

#[tokio::test]
async fn a_log_is_replayed_into_a_rehearsal_and_nowhere_else() {
    let desk = busy().await;
    let dir = tempfile::tempdir().unwrap();
    let other = serving(rehearsal(dir.path()).await, dir).await;
    other.log_in().await;
    let settings = std::fs::read_to_string(other.settings()).unwrap();
    let settings: toml::Table = toml::from_str(&settings).unwrap();
    let into = [
        "replay",
        "--into",
        &other.server(),
        "--into-fingerprint",
        settings["fingerprint"].as_str().unwrap(),
        "--into-token",
        settings["token"].as_str().unwrap(),
    ];
    desk.says(&into).await;
    assert_eq!(*other.core().fleet(), *desk.core().fleet());
    assert_eq!(other.says(&["state"]).await, desk.says(&["state"]).await);
    let (there, here) =
        (other.core().history(0, 500).await.unwrap(), desk.core().history(0, 500).await.unwrap());
    assert_eq!(there, here, "times and actors, too");
    let page = other.says(&["query", "vms", "-o", "names"]).await;
    assert_eq!(page.lines().collect::<Vec<_>>()[..2], ["hello-1", "web"]);

    let refused =
        other
            .eli(
                &[
                    "replay",
                    "--into",
                    &desk.server(),
                    "--into-fingerprint",
                    &desk.site.app.ca.fingerprint(),
                    "--into-token",
                    toml::from_str::<toml::Table>(&std::fs::read_to_string(desk.settings()).unwrap())
                        .unwrap()["token"]
                        .as_str()
                        .unwrap(),
                ],
            )
            .await;
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("this appliance serves a site"), "{}", refused.err);
}

#[tokio::test]
async fn a_plan_is_shown_kept_and_applied() {
    let desk = logged_in().await;
    host(desk.core(), mac(1)).await;
    let shown = desk.says(&["plan", "--", "vm", "create", "web", "--memory", "1024", "--wait"]).await;
    assert!(shown.contains("Would do    web: Created as web on host-1"), "{shown}");
    assert!(shown.contains("Placed      web on host-1, 10.77."), "{shown}");
    assert!(shown.contains("Would wait  web: its host will make it"), "{shown}");
    assert!(desk.core().fleet().vms.is_empty());
    let name = shown.trim().rsplit(' ').next().unwrap();
    let done = desk.says(&["apply", name]).await;
    assert!(done.contains("Created as web on host-1"), "{done}");
    let again = desk.refuses(&["apply", name]).await;
    assert_eq!(again, "eli: there is a VM web already\n");

    let file = desk.dir.path().join("plan.json");
    let file = file.to_str().unwrap();
    desk.says(&["plan", "--out", file, "--", "vm", "create", "db"]).await;
    desk.says(&["vm", "create", "first"]).await;
    let changed = desk.refuses(&["apply", file]).await;
    assert!(changed.contains("the site has changed since this was planned"), "{changed}");
    assert!(changed.contains("The plan said"), "{changed}");

    let both = desk.says(&["plan", "--", "vm", "delete", "web", "first"]).await;
    assert!(both.contains("web: To be removed") && both.contains("first: To be removed"), "{both}");
    let nothing = desk.eli(&["plan", "--", "vms"]).await;
    assert_eq!((nothing.code, nothing.out.as_str()), (2, ""));
    assert!(nothing.err.contains("changes nothing"), "{}", nothing.err);
    assert!(desk.refuses(&["plan", "--", "vm", "create", "web"]).await.contains("there is a VM web already"));
    assert!(desk.refuses(&["plan", "--", "logout"]).await.contains("nothing to plan"));
}

#[tokio::test]
async fn a_document_is_exported_changed_and_applied() {
    let desk = busy().await;
    for name in ["site.toml", "site.yaml", "site.json"] {
        let file = desk.dir.path().join(name);
        let file = file.to_str().unwrap();
        desk.says(&["export", "--out", file]).await;
        assert_eq!(desk.says(&["apply", file]).await, "Nothing had to be changed\n");
    }
    let text = desk.says(&["export"]).await;
    let more = text + "\n[[vm]]\nname = \"build\"\nmemory_mib = 2048\n";
    let file = desk.file("more.toml", more.as_bytes());
    let planned = desk.says(&["apply", "--plan", &file]).await;
    assert!(planned.contains("Would do    build: Created as build on host-1"), "{planned}");
    assert!(vm::by_name(&desk.core().fleet(), "build").is_none());
    let applied = desk.says(&["apply", &file]).await;
    assert!(applied.ends_with("Done: 2 changes\n"), "{applied}");
    assert!(vm::by_name(&desk.core().fleet(), "build").is_some());
    assert_eq!(desk.says(&["apply", &file]).await, "Nothing had to be changed\n");

    let resized =
        desk.file("resized.toml", more.replace("memory_mib = 2048", "memory_mib = 4096").as_bytes());
    let said = desk.eli(&["apply", &resized]).await;
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("Stays different: VM build has 2048 MiB memory and not 4096 MiB"),
        "{}",
        said.out
    );
    let wrong = desk.file("wrong.toml", b"[[vm]]\nnam = \"x\"\n");
    let said = desk.refuses(&["apply", &wrong]).await;
    assert!(said.contains("line 2") && said.contains("nam"), "{said}");
}

#[tokio::test]
async fn questions_are_answered_as_tables_json_and_names() {
    let desk = busy().await;
    let table = desk.says(&["query", "vms", "memory_mib > 600"]).await;
    assert!(table.starts_with("ID"), "{table}");
    assert!(table.contains("web") && !table.contains("hello-1"), "{table}");
    assert_eq!(desk.says(&["query", "hosts", "version < \"1.2\"", "-o", "names"]).await, "host-1\n");
    let json = desk.says(&["query", "vms", "name == 'web'", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["phase"], &json[0]["observed.state"]), (&"running".into(), &"running".into()));
    assert_eq!(desk.says(&["query", "vms", "--at", "1", "-o", "names"]).await, "");
    assert!(desk.says(&["query"]).await.contains("observed.state"));
    let wrong = desk.refuses(&["query", "vms", "memry > 1"]).await;
    assert!(wrong.contains("memry is not a field of vms\n  memry > 1\n  ^"), "{wrong}");
    let old = desk.says(&["query", "hosts", "version < \"1.2\"", "-o", "names"]).await;
    let drained = desk.eli_reading(&["host", "drain", "-"], &old).await;
    assert_eq!(drained.code, 0, "{}", drained.err);
    assert!(drained.out.contains("rain"), "{}", drained.out);
    let show = desk.says(&["show", "vm", "web"]).await;
    assert!(show.contains("FIELD") && show.contains("WANTED") && show.contains("NOW"), "{show}");
    assert!(show.lines().any(|line| line.split_whitespace().eq(["phase", "running", "running"])), "{show}");
}

//! Completion of commands and of names: the shell calls `eli` with `COMPLETE` set, and names come from the appliance.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use serde_json::{Map, Value};

use super::{Access, Arguments, client};

/// Whoever has pressed Tab waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST: usize = 1000;

static SETTINGS: OnceLock<PathBuf> = OnceLock::new();

#[derive(Clone, Copy, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What the shell is to read, so that it asks `eli` when Tab is pressed.
pub fn registration(shell: Shell) -> anyhow::Result<String> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let completer = shells.completer(name).context("there is no completion for this shell")?;
    let mut text = Vec::new();
    completer.write_registration("COMPLETE", "eli", "eli", "eli", &mut text)?;
    Ok(String::from_utf8(text)?)
}

/// Answers the shell and ends, if it is the shell that asks.
pub fn answer_shell(settings: &std::path::Path) {
    let _ = SETTINGS.set(settings.to_owned());
    CompleteEnv::with_factory(Arguments::command).complete();
}

/// Names of what the command on the line is about. Without an appliance that answers there are none.
pub fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(1).collect();
    let nouns = nouns(&words);
    let begin = current.to_string_lossy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let asked = async { tokio::time::timeout(PATIENCE, ask(nouns)).await };
    let names = runtime.block_on(asked).ok().and_then(Result::ok).unwrap_or_default();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*begin));
    fitting.take(MOST).map(CompletionCandidate::new).collect()
}

async fn ask(nouns: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let settings = SETTINGS.get().context("no settings")?;
    let client = client(&Access::from_environment(), settings)?;
    let mut names = BTreeSet::new();
    for noun in nouns {
        let field = if matches!(*noun, "leases" | "reservations") { "address" } else { "name" };
        let things: Vec<Map<String, Value>> = client.list(&format!("/query/{noun}?fields={field}")).await?;
        let found = things.iter().filter_map(|thing| thing.get(field)?.as_str());
        names.extend(found.filter(|name| !name.chars().any(char::is_control)).map(str::to_owned));
    }
    Ok(names)
}

/// What can be asked for, of the first word that says it.
fn nouns(words: &[String]) -> &'static [&'static str] {
    let known: [(&str, &[&str]); 21] = [
        ("machine", &["machines"]),
        ("machines", &["machines"]),
        ("adopt", &["machines"]),
        ("host", &["machines"]),
        ("hosts", &["machines"]),
        ("vm", &["vms"]),
        ("vms", &["vms"]),
        ("service", &["services"]),
        ("services", &["services"]),
        ("remove", &["services"]),
        ("package", &["packages"]),
        ("rack", &["racks"]),
        ("switch", &["switches"]),
        ("os", &["media"]),
        ("profile", &["profiles"]),
        ("subnet", &["subnets"]),
        ("reservation", &["reservations"]),
        ("lease", &["leases"]),
        ("user", &["users"]),
        ("tenant", &["tenants"]),
        ("delete", &["machines", "vms"]),
    ];
    if words.iter().any(|word| word == "unplace" || word == "place") {
        return &["machines", "switches"];
    }
    let named = words.iter().find_map(|word| known.iter().find(|(known, _)| known == word));
    named.map_or(&["machines", "vms", "services"], |(_, nouns)| nouns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_before_say_what_is_meant() {
        let of = |line: &str| nouns(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("eli machine remove h"), ["machines"]);
        assert_eq!(of("eli vm cancel w"), ["vms"]);
        assert_eq!(of("eli rack place h"), ["machines", "switches"]);
        assert_eq!(of("eli show subnet s"), ["subnets"]);
        assert_eq!(of("eli timeline w"), ["machines", "vms", "services"]);
    }

    #[test]
    fn every_shell_is_told_to_ask_eli() {
        for shell in Shell::value_variants() {
            let text = registration(*shell).unwrap();
            assert!(text.contains("COMPLETE") && text.contains("eli"), "{text}");
        }
    }
}

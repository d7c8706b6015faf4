//! Runs the tools that do the work (mmdebstrap, mksquashfs, xorriso, …) and says what they said when they fail.

use std::{
    io::{ErrorKind, Read},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};

const LAST_LINES: usize = 15;

/// Runs a tool to its end; its output is only shown, in part, if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(&name, error))?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!("{name} ended with {}; its last lines:\n{}", output.status, last_lines(&text));
}

/// Runs a tool that reads what `feed` writes.
pub fn run_fed(
    command: &mut Command,
    feed: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
) -> Result<()> {
    let name = name(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(&name, error))?;
    let said = collect(&mut child);

    let mut stdin = child.stdin.take().context("the tool has no standard input")?;
    let fed = feed(&mut stdin);
    drop(stdin);
    let status = child.wait().with_context(|| format!("waiting for {name}"))?;
    if !status.success() {
        // What it said is the reason; that our writing broke off is only the consequence.
        bail!("{name} ended with {status}; its last lines:\n{}", last_lines(&said()));
    }
    fed.with_context(|| format!("writing to {name}"))
}

/// Reads both outputs of a child in the background, so that it never waits for us.
fn collect(child: &mut Child) -> impl FnOnce() -> String + use<> {
    fn reader(source: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut source) = source {
                // A read error ends the text; the exit status tells whether the tool failed.
                let _ = source.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    move || out.join().unwrap_or_default() + &err.join().unwrap_or_default()
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn cannot_start(name: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        return anyhow!("the program {name} is not installed; `tests/needs` installs it");
    }
    anyhow!(error).context(format!("starting {name}"))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted() {
        let error = run(Command::new("sh").args(["-c", "seq 1 40; echo no space >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with("no space"), "{text}");
        assert!(!text.contains("\n20\n"), "{text}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = run(&mut Command::new("no-such-tool")).unwrap_err();
        assert_eq!(error.to_string(), "the program no-such-tool is not installed; `tests/needs` installs it");
    }

    #[test]
    fn a_tool_that_stops_reading_is_quoted_too() {
        let error = run_fed(Command::new("sh").args(["-c", "echo bad input >&2; exit 1"]), |stdin| {
            stdin.write_all(&vec![0; 1 << 20])?;
            Ok(())
        })
        .unwrap_err();
        assert!(error.to_string().ends_with("bad input"), "{error}");
    }
}

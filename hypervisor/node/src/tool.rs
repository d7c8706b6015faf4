//! The one way in which external programs are run: with a name for the step, a time limit, and the last
//! words of a program that failed.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Long enough for any question to a disk or to LVM; programs that write a whole disk get more.
pub const SHORT: Duration = Duration::from_secs(60);

/// A program did not do what it was run for.
#[derive(Debug)]
pub struct ToolError {
    /// What it was run for, as `making the partition table`.
    pub step: String,
    pub program: String,
    pub why: Why,
}

#[derive(Debug)]
pub enum Why {
    NotStarted(io::Error),
    Failed {
        status: ExitStatus,
        /// The last lines that it wrote to stderr.
        last_words: String,
    },
    TimedOut(Duration),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, program, why } = self;
        match why {
            Why::NotStarted(_) => write!(f, "{step}: {program} could not be started"),
            Why::Failed { status, last_words } if last_words.is_empty() => {
                write!(f, "{step}: {program} ended with {status}")
            }
            Why::Failed { status, last_words } => {
                write!(f, "{step}: {program} ended with {status}: {last_words}")
            }
            Why::TimedOut(limit) => {
                write!(f, "{step}: {program} did not end within {} s", limit.as_secs())
            }
        }
    }
}

impl std::error::Error for ToolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Why::NotStarted(source) => Some(source),
            Why::Failed { .. } | Why::TimedOut(_) => None,
        }
    }
}

/// Runs `command` to its end and returns what it wrote to stdout.
pub fn run(step: &str, limit: Duration, command: &mut Command) -> Result<String, ToolError> {
    run_with_input(step, limit, command, "")
}

/// Like [`run`], with `input` on the program's stdin.
pub fn run_with_input(
    step: &str,
    limit: Duration,
    command: &mut Command,
    input: &str,
) -> Result<String, ToolError> {
    let fail = failure(step, command);
    let Ended { status, stdout, stderr } = end(limit, command, input).map_err(&fail)?;
    if status.success() {
        return Ok(stdout);
    }
    Err(fail(Why::Failed { status, last_words: last_lines(&stderr) }))
}

/// Like [`run`], of a program whose status says something else than whether it could do its work.
pub fn said(step: &str, limit: Duration, command: &mut Command) -> Result<String, ToolError> {
    let fail = failure(step, command);
    end(limit, command, "").map(|ended| ended.stdout).map_err(fail)
}

fn failure(step: &str, command: &Command) -> impl Fn(Why) -> ToolError + use<> {
    let (step, program) = (step.to_owned(), command.get_program().to_string_lossy().into_owned());
    move |why| ToolError { step: step.clone(), program: program.clone(), why }
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn end(limit: Duration, command: &mut Command, input: &str) -> Result<Ended, Why> {
    // LVM otherwise fills its last words with every file that whoever started us left open.
    command.env("LVM_SUPPRESS_FD_WARNINGS", "1");
    // A group of its own, so that the limit ends its children too.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(Why::NotStarted)?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // From a thread: a program that never reads must not hold us. One that ends early breaks the pipe,
        // and its status says why.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }

    let Some(status) = wait(&mut child, limit).map_err(Why::NotStarted)? else {
        return Err(Why::TimedOut(limit));
    };
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn text(collected: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = collected.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `None` when the limit passed; the program is killed then.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn stdout_comes_back_and_stdin_goes_in() {
        assert_eq!(run_with_input("asking", SHORT, &mut shell("cat; echo b"), "a\n").unwrap(), "a\nb\n");
    }

    #[test]
    fn a_failure_names_the_step_and_ends_with_the_last_words() {
        let mut command = shell("for n in 1 2 3 4 5 6; do echo line $n >&2; done; exit 3");
        let error = run("making the partition table", SHORT, &mut command).unwrap_err();
        assert_eq!(
            error.to_string(),
            "making the partition table: sh ended with exit status: 3: line 3; line 4; line 5; line 6"
        );
        let error = run("asking", SHORT, &mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "asking: no-such-program could not be started");
    }

    #[test]
    fn the_limit_ends_the_program_and_its_children() {
        let begin = Instant::now();
        let error =
            run("waiting", Duration::from_millis(100), &mut shell("sleep 600 & sleep 600")).unwrap_err();
        assert!(matches!(error.why, Why::TimedOut(_)), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

//! Serial over LAN: the serial line of a machine by its BMC, with `ipmitool sol activate` on a terminal of its own.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::openpty;
use nix::sys::termios::{self, SetArg};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, Command};

use super::process::PATH;

/// What ipmitool says when the line is there.
const OPERATIONAL: &str = "[SOL Session operational.";
/// It says less before that; more is none of its words.
const LONGEST: usize = 16 << 10;
/// To tell the BMC that the line is let go: one that is not told lets nobody else have it for minutes.
const LETS_GO_WITHIN: Duration = Duration::from_secs(10);

/// Ctrl-], alone after a line's end: with ipmitool's own, `~`, what is typed would not all reach the machine.
const ESCAPE: &str = "\u{1d}";

/// The line, both ways; let go when it is dropped.
pub struct Serial {
    terminal: Option<Terminal>,
    process: Option<Child>,
}

/// Why there is no line.
pub(super) enum NoLine {
    NotStarted(io::Error),
    Silent,
    /// What it said before it ended.
    Ended(String),
}

impl Serial {
    /// `connection` are ipmitool's arguments up to its command; the password is in its environment.
    pub(super) async fn open(
        program: &Path,
        connection: &[String],
        password: &str,
        limit: Duration,
    ) -> Result<Serial, NoLine> {
        let (terminal, theirs) = Terminal::make().map_err(NoLine::NotStarted)?;
        let stdio = || theirs.try_clone().map(Stdio::from);
        let mut command = Command::new(program);
        command
            .args(connection)
            .args(["-e", ESCAPE, "sol", "activate"])
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("IPMI_PASSWORD", password)
            .current_dir("/")
            .stdin(stdio().map_err(NoLine::NotStarted)?)
            .stdout(stdio().map_err(NoLine::NotStarted)?)
            .stderr(stdio().map_err(NoLine::NotStarted)?)
            .process_group(0)
            .kill_on_drop(true);
        let process = command.spawn().map_err(NoLine::NotStarted)?;
        // Both hold ends of the terminal that would keep it from ever ending.
        drop((command, theirs));
        let mut serial = Serial { terminal: Some(terminal), process: Some(process) };
        match tokio::time::timeout(limit, serial.begin()).await {
            Ok(begun) => begun.map(|()| serial),
            Err(_) => Err(NoLine::Silent),
        }
    }

    /// Reads what ipmitool says itself.
    async fn begin(&mut self) -> Result<(), NoLine> {
        let mut said = Vec::new();
        while said.len() < LONGEST {
            let Ok(byte) = self.read_u8().await else { break };
            said.push(byte);
            // To the end of its line.
            let text = String::from_utf8_lossy(&said);
            if text.find(OPERATIONAL).is_some_and(|at| text[at..].ends_with('\n')) {
                return Ok(());
            }
        }
        Err(NoLine::Ended(String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        // At the end of its terminal ipmitool tells the BMC, and ends.
        drop(self.terminal.take());
        let Some(mut process) = self.process.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // If it does not end by itself it is ended by being dropped.
                let _ = tokio::time::timeout(LETS_GO_WITHIN, process.wait()).await;
            });
        }
    }
}

impl AsyncRead for Serial {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(terminal) = &mut self.terminal else { return Poll::Ready(Ok(())) };
        terminal.poll_read(cx, buf)
    }
}

impl AsyncWrite for Serial {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(terminal) = &mut self.terminal else { return Poll::Ready(Ok(0)) };
        terminal.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Our end of a terminal.
struct Terminal(AsyncFd<File>);

impl Terminal {
    /// With the other end, for a program.
    fn make() -> io::Result<(Terminal, File)> {
        let ends = openpty(None, None)?;
        let mut settings = termios::tcgetattr(&ends.slave)?;
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&ends.slave, SetArg::TCSANOW, &settings)?;
        // No other program that we start meanwhile is to hold an end.
        fcntl(&ends.master, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        fcntl(&ends.slave, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        fcntl(&ends.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        #[expect(
            deprecated,
            reason = "a File is its own descriptor for as long as it is held; register is unsafe"
        )]
        let ours = AsyncFd::new(File::from(ends.master))?;
        Ok((Terminal(ours), File::from(ends.slave)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match guard.try_io(|terminal| terminal.get_ref().read(room)) {
                Ok(Ok(length)) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // The program has ended.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|terminal| terminal.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }
}

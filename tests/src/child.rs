//! Child processes that never outlive the lab, however the lab ends.
//!
//! The kernel sends a child its "parent death signal" when the *thread* that
//! forked it ends, so every child is started by one thread that lives as long
//! as the process. `setpriv` asks for the signal before it becomes the program,
//! which keeps our own code free of `unsafe` between fork and exec.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::{io, thread};

struct Order {
    command: Command,
    answer: Sender<io::Result<Child>>,
}

static NURSERY: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox): (Sender<Order>, Receiver<Order>) = channel();
    thread::spawn(move || {
        for mut order in inbox {
            // Whoever asked may have given up; then the child is killed below
            // by nobody, so take it down here.
            if let Err(lost) = order.answer.send(order.command.spawn())
                && let Ok(mut child) = lost.0
            {
                kill(&mut child);
            }
        }
    });
    Mutex::new(orders)
});

/// A command line for [`spawn`]: `program` is killed when this process ends.
///
/// It runs in a process group of its own, so that Ctrl-C reaches the lab alone
/// and the lab decides in which order things stop.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null()).process_group(0);
    command
}

/// Starts a command made by [`command`].
pub fn spawn(command: Command) -> io::Result<Child> {
    let (answer, result) = channel();
    let gone = || io::Error::other("the thread that starts child processes has ended");
    NURSERY.lock().map_err(|_| gone())?.send(Order { command, answer }).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// Ends a child at once, as pulling the plug would, and collects it.
pub fn kill(child: &mut Child) {
    // Both fail only when the child has already ended, which is what we want.
    let _ = child.kill();
    let _ = child.wait();
}

//! Carries on by itself: looks at what has changed after each change, at what is due when it is, and every ten seconds
//! gives all commands that are planned. It takes no hints: the planner finds out by itself what has changed.

use std::time::Duration;

use fleet::{Command, Planner};
use futures::StreamExt as _;
use futures::stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::{Actor, Core, ExecuteError, now};

const EVERY: Duration = Duration::from_secs(10);

/// Changes come in bursts; one look serves a burst.
const SETTLE: Duration = Duration::from_millis(50);

/// Commands that are on their way at once, so that many share a commit.
const AT_ONCE: usize = 256;

pub async fn run(core: Core, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut fleet = core.watch_fleet();
    let mut observed = core.watch_observed();
    let mut planner = Planner::default();
    let mut again = Instant::now() + EVERY;
    let started = Instant::now();
    loop {
        fleet.mark_unchanged();
        observed.mark_unchanged();
        let mut commands;
        (planner, commands) = look(&core, planner).await?;
        core.set_plan(planner.plan().clone());
        if Instant::now() >= again {
            again = Instant::now() + EVERY;
            commands = planner.actions().cloned().collect();
        }
        let up_secs = started.elapsed().as_secs();
        commands.retain(|command| !fleet::is_early(command, up_secs));
        carry_out(&core, commands).await;
        let due =
            planner.next_due().map_or(EVERY, |due| Duration::from_millis(due.0.saturating_sub(now().0)));
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = fleet.changed() => {}
            _ = observed.changed() => {}
            () = tokio::time::sleep(due) => {}
            () = tokio::time::sleep_until(again) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The first look at a large fleet takes a second, and so does one after much has changed.
async fn look(core: &Core, mut planner: Planner) -> anyhow::Result<(Planner, Vec<Command>)> {
    let (fleet, observed) = (core.fleet(), core.observed());
    let looked = tokio::task::spawn_blocking(move || {
        let commands = planner.look(&fleet, &observed, now());
        (planner, commands)
    });
    Ok(looked.await?)
}

/// Each is tried once. What is not carried out stays planned and is tried again in ten seconds at the latest.
async fn carry_out(core: &Core, commands: Vec<Command>) {
    let orders = stream::iter(commands).map(|command| async move {
        let executed = core.execute(&Actor::Appliance, command.clone()).await;
        (command, executed)
    });
    let mut orders = orders.buffered(AT_ONCE);
    while let Some((command, executed)) = orders.next().await {
        match executed {
            Ok(_) => {}
            // The fleet has moved on since the plan was made; the next look sees it as it is.
            Err(
                error @ (ExecuteError::Refused(_)
                | ExecuteError::NotAllowed { .. }
                | ExecuteError::OutOfScope { .. }
                | ExecuteError::Changed),
            ) => {
                tracing::debug!(?command, %error, "A planned step was refused");
            }
            // The writer has said so already.
            Err(
                ExecuteError::NotDurable(_)
                | ExecuteError::Away(_)
                | ExecuteError::Unknown(_)
                | ExecuteError::Stopping,
            ) => return,
        }
    }
}

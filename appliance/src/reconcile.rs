//! Carries on by itself: looks at everything after each change and every ten seconds, and gives the
//! commands that `plan` names. It takes no hints and keeps nothing between two looks.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::core::{Actor, Core, ExecuteError, now};

const EVERY: Duration = Duration::from_secs(10);

/// Changes come in bursts; one look serves a burst.
const SETTLE: Duration = Duration::from_millis(50);

pub async fn run(core: Core, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut fleet = core.watch_fleet();
    let mut observed = core.watch_observed();
    loop {
        fleet.mark_unchanged();
        observed.mark_unchanged();
        let plan = fleet::plan(&core.fleet(), &core.observed(), now());
        let actions = plan.actions().cloned().collect::<Vec<_>>();
        core.set_plan(plan);
        for command in actions {
            match core.execute(&Actor::Appliance, command.clone()).await {
                Ok(_) => {}
                // The fleet has moved on since the plan was made; the next look sees it as it is.
                Err(error @ (ExecuteError::Refused(_) | ExecuteError::Changed)) => {
                    tracing::debug!(?command, %error, "A planned step was refused")
                }
                // The writer has said so already; it is tried again at the next look.
                Err(ExecuteError::NotDurable(_) | ExecuteError::Away(_) | ExecuteError::Unknown(_)) => break,
                Err(ExecuteError::Stopping) => return Ok(()),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = fleet.changed() => {}
            _ = observed.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

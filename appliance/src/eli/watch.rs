//! `--watch`: a list or a thing, shown again whenever something has changed.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::Parser as _;

use super::client::{Client, NotReached};
use super::{Arguments, Command, Output, networks, nouns, systems, users};

/// Before the appliance is asked again whether it is back.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether a command only shows something, so that it can be shown again.
pub fn only_shows(command: &Command) -> bool {
    match command {
        Command::Machines
        | Command::Hosts
        | Command::Vms
        | Command::Volumes
        | Command::Images
        | Command::Services
        | Command::Packages
        | Command::Registry
        | Command::Show { .. }
        | Command::Timeline { .. }
        | Command::Query(_)
        | Command::State { .. }
        | Command::Me => true,
        Command::History(history) => history.lists(),
        Command::Rack(verb) => matches!(verb, nouns::Rack::List),
        Command::Switch(verb) => matches!(verb, nouns::Switch::List),
        Command::Os(verb) => matches!(verb, systems::Os::List),
        Command::Profile(verb) => {
            matches!(verb, systems::ProfileVerb::List | systems::ProfileVerb::Show { .. })
        }
        Command::Subnet(verb) => matches!(verb, networks::SubnetVerb::List),
        Command::Reservation(verb) => matches!(verb, networks::ReservationVerb::List),
        Command::Lease(verb) => matches!(verb, networks::LeaseVerb::List),
        Command::User(verb) => matches!(verb, users::UserVerb::List),
        Command::Session(verb) => matches!(verb, users::SessionVerb::List),
        _ => false,
    }
}

/// Does not return unless it is refused, or the appliance does not answer at the start.
pub async fn watch(client: &Client, output: Output, settings: &Path) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut shown = false;
    loop {
        let lost = match client.changes().await {
            // Of the stream's start there is an event, too.
            Ok(mut changes) => loop {
                if let Err(error) = changes.next().await {
                    break error;
                }
                if terminal {
                    print!("\x1b[H\x1b[2J");
                }
                let again = Arguments::parse().command;
                if let Err(error) = Box::pin(super::give(client, again, output, settings)).await {
                    break error;
                }
                std::io::stdout().flush()?;
                shown = true;
            },
            Err(error) => error,
        };
        if !shown || lost.downcast_ref::<NotReached>().is_none() {
            return Err(lost);
        }
        eprintln!("{lost:#}; this goes on when it does");
        tokio::time::sleep(PAUSE).await;
    }
}

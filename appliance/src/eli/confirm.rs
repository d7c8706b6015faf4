//! What destroys something is shown first and done when somebody has said yes.

use std::io::IsTerminal as _;
use std::path::Path;

use super::client::Client;
use super::ending::Own;
use super::{Command, Vm, login, networks, nouns, plan, strips, systems, users};

/// Whether a disk, a VM, what runs, or what is kept of a thing goes with it.
pub fn destroys(command: &Command) -> bool {
    match command {
        Command::Delete(_) | Command::Remove(_) => true,
        Command::Adopt { how, .. } => how.wipe,
        Command::Vm(verb) => matches!(verb, Vm::Remove(_) | Vm::Recover(_)),
        Command::Machine(verb) => match verb {
            nouns::Machine::Remove(_)
            | nouns::Machine::Reimage(_)
            | nouns::Machine::Erase(_)
            | nouns::Machine::Retire(_) => true,
            nouns::Machine::Power(switch) => switch.cuts(),
            nouns::Machine::Bmc(bmc) => bmc.remove,
            nouns::Machine::Strip(verb) => matches!(verb, strips::Strip::Remove { .. }),
            nouns::Machine::Install { how, .. } => how.wipe,
            nouns::Machine::Boot { .. }
            | nouns::Machine::Cancel(_)
            | nouns::Machine::Erasure(_)
            | nouns::Machine::Unretire(_)
            | nouns::Machine::Check(_)
            | nouns::Machine::Identify(_)
            | nouns::Machine::Dark(_) => false,
        },
        Command::Host(verb) => matches!(verb, nouns::Host::Remove(_) | nouns::Host::Fence(_)),
        Command::Service(verb) => matches!(verb, nouns::Service::Remove(_)),
        Command::Package(nouns::Package::Remove(_)) => true,
        Command::Rack(verb) => matches!(verb, nouns::Rack::Remove(_)),
        Command::Switch(verb) => matches!(verb, nouns::Switch::Remove(_)),
        Command::Os(verb) => matches!(verb, systems::Os::Remove(_)),
        Command::Profile(verb) => matches!(verb, systems::ProfileVerb::Remove(_)),
        Command::Subnet(verb) => matches!(verb, networks::SubnetVerb::Remove(_)),
        Command::Reservation(verb) => matches!(verb, networks::ReservationVerb::Remove(_)),
        Command::Lease(verb) => matches!(verb, networks::LeaseVerb::Remove(_)),
        Command::User(verb) => matches!(verb, users::UserVerb::Remove(_)),
        _ => false,
    }
}

/// Shows what `command` would do and asks whether to do it; false if there is nothing to do.
pub async fn wanted(client: &Client, command: Command, settings: &Path) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let sentence = "this destroys something, and there is no terminal to ask on; --yes does it without asking, \
                        --plan shows what it would do";
        return Err(Own::NotConfirmed(sentence.to_owned()).into());
    }
    let planned = plan::make(&client.planning(), command, settings).await?;
    plan::tell(&planned);
    if planned.forecast.changes_nothing() {
        return Ok(false);
    }
    let answer = login::ask("Do this? [y/N] ")?;
    if matches!(answer.to_lowercase().as_str(), "y" | "yes") {
        return Ok(true);
    }
    Err(Own::NotConfirmed("nothing was done".to_owned()).into())
}

//! The outlets of machines: the core says which is next and when it is proven, and this does it.

use fleet::MachineId;
use fleet::machine::Machine;
use fleet::power::{Action, Answer, Move, Outlet, Outlets, Strip, outlets};

use super::{Kept, keep};
use crate::bmc::{self, Bmcs, Endpoint, Login};
use crate::core::now;
use crate::vault::{Vault, VaultError};

/// Under which name the login for a strip is kept, for one of the machines on it.
fn secret(machine: MachineId, address: &str) -> String {
    format!("strip {machine} {address}")
}

pub async fn keep_login(
    vault: &Vault,
    machine: MachineId,
    address: &str,
    login: &Login,
) -> Result<(), VaultError> {
    keep(vault, &secret(machine, address), login).await
}

pub async fn forget_login(vault: &Vault, machine: MachineId, address: &str) -> Result<(), VaultError> {
    vault.remove(&secret(machine, address)).await
}

/// The sentence that says what shows it, or why nothing does.
pub(super) async fn switch(
    bmcs: &Bmcs,
    vault: &Vault,
    machine: MachineId,
    strips: &[Strip],
    action: Action,
) -> Result<String, String> {
    let mut outlets = Outlets::to(action, outlets(strips));
    loop {
        let (outlet, next) = match outlets.next() {
            Ok((outlet, next)) => (outlet.clone(), next),
            Err(ended) => return ended,
        };
        let answer = go(bmcs, vault, machine, &outlet, next).await;
        outlets.hear(answer.unwrap_or_else(Answer::Trouble));
    }
}

async fn go(
    bmcs: &Bmcs,
    vault: &Vault,
    machine: MachineId,
    outlet: &Outlet,
    next: Move,
) -> Result<Answer, String> {
    let login = login(vault, machine, &outlet.address).await?;
    let endpoint = endpoint(outlet);
    let strip = bmcs.at(&endpoint, login.as_ref(), now());
    let on = match next {
        Move::Switch { on: false } => strip.switch_off().await.map(|()| false),
        Move::Switch { on: true } => strip.switch_on().await.map(|_| true),
        Move::Ask => strip.power().await.map(|power| power == bmc::Power::On),
    };
    on.map(|on| Answer::Is { on }).map_err(sentence)
}

/// On if one of its outlets is.
pub(super) async fn ask(
    bmcs: &Bmcs,
    vault: &Vault,
    machine: MachineId,
    strips: &[Strip],
) -> Result<bmc::Power, String> {
    let mut is = bmc::Power::Off;
    for outlet in outlets(strips) {
        match go(bmcs, vault, machine, &outlet, Move::Ask).await? {
            Answer::Is { on: true } => is = bmc::Power::On,
            Answer::Is { on: false } => {}
            Answer::Trouble(why) => return Err(why),
        }
    }
    Ok(is)
}

/// Asks for every outlet, before the strip is set.
pub async fn try_out(
    bmcs: &Bmcs,
    machine: &Machine,
    strip: &Strip,
    login: Option<&Login>,
) -> Result<(), String> {
    for outlet in outlets(std::slice::from_ref(strip)) {
        let endpoint = endpoint(&outlet);
        let is = bmcs.at(&endpoint, login, now()).power().await.map_err(sentence)?;
        // Some agents say off of whatever they do not find.
        if is == bmc::Power::Off && machine.power.cut.is_none() {
            return Err(format!(
                "{outlet} says that it is off; is {} plugged into another one, or is it another strip? Switch it on, or \
                 set it by force",
                machine.name
            ));
        }
    }
    Ok(())
}

fn endpoint(outlet: &Outlet) -> Endpoint {
    let mut options = outlet.options.clone();
    options.insert("plug".to_owned(), outlet.name.clone());
    Endpoint {
        kind: bmc::Kind::Agent(outlet.agent.clone(), options),
        address: outlet.address.clone(),
        pin: None,
        system: None,
    }
}

async fn login(vault: &Vault, machine: MachineId, address: &str) -> Result<Option<Login>, String> {
    Kept::get(vault, &secret(machine, address)).await.map_err(|error| error.to_string())
}

/// What the driver of BMCs says, of a strip.
fn sentence(error: bmc::BmcError) -> String {
    let told = error.to_string();
    told.replace("the machine of the BMC at", "the outlet of the power strip at")
        .replace("the BMC", "the power strip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_strip_calls_it_one() {
        let silent = bmc::BmcError::Silent { address: "10.9.0.40".into(), secs: 20 };
        assert!(sentence(silent).starts_with("the power strip at 10.9.0.40 did not answer within 20 s"));
        let (address, wanted, why) = ("10.9.0.40".to_owned(), bmc::Power::Off, "it says on".to_owned());
        let unproven = sentence(bmc::BmcError::Unproven { address, wanted, why });
        assert!(
            unproven.starts_with("the outlet of the power strip at 10.9.0.40 is not known to be off"),
            "{unproven}"
        );
    }
}

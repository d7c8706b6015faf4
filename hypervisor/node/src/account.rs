//! Makes an account for the appliance at this machine's own BMC, from inside (IPMI 2.0, chapter 22).
//!
//! Only a place that nobody has is taken, and that which has the account's name already. What others log in with is
//! never touched.

use std::sync::Arc;

use anyhow::Context as _;
use fleet::wire::{AccountMade, BmcAccount, Desired};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::client::until_heard;
use crate::inventory::{self, AskBmc};
use crate::member::{Member, Membership};

const APP: u8 = 0x06;
const SET_USER_ACCESS: u8 = 0x43;
const GET_USER_ACCESS: u8 = 0x44;
const SET_USER_NAME: u8 = 0x45;
const GET_USER_NAME: u8 = 0x46;
const SET_USER_PASSWORD: u8 = 0x47;
/// Of names, and of the passwords of IPMI 1.5.
const LENGTH: usize = 16;
/// The first is the nameless one, which nobody may be given.
const FIRST: u8 = 2;

/// Makes it whenever it is wanted, for ever; ends when nothing is desired any more.
pub async fn attend(mut desired: watch::Receiver<Option<Desired>>, membership: Arc<Membership>) {
    let mut told = None;
    loop {
        let wanted = desired.borrow_and_update().as_ref().and_then(|desired| desired.bmc_account.clone());
        if let Some(account) = wanted.clone().filter(|account| told.as_ref() != Some(account)) {
            let trouble = here(account).await.err().map(|error| format!("{error:#}"));
            match &trouble {
                None => info!("The appliance has an account at this machine's BMC"),
                Some(trouble) => warn!("No account could be made at this machine's BMC: {trouble}"),
            }
            let Member { node, client } = membership.member().await;
            let made = AccountMade { trouble };
            if let Err(error) = until_heard(|| client.account(node, &made), |error| warn!("{error}")).await {
                warn!("What came of the account is not wanted: {error}");
            }
        }
        // Wanted again later, it is made again.
        told = wanted;
        if desired.changed().await.is_err() {
            return;
        }
    }
}

async fn here(account: BmcAccount) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        let mut ask =
            inventory::ask_bmc().context("its BMC cannot be asked from inside: there is no /dev/ipmi0")?;
        let channel = inventory::lan_channel(&mut *ask).context("its BMC names no channel that is a LAN")?;
        make(&mut *ask, channel, &account)
    })
    .await
    .context("speaking to the BMC")?
}

/// Makes it, or gives the one that is there this password and these rights again.
pub fn make(ask: AskBmc<'_>, channel: u8, account: &BmcAccount) -> anyhow::Result<()> {
    let name = padded(&account.user).context("the account's name is too long")?;
    let password = padded(&account.password).context("the account's password is too long")?;
    let place = place(ask, channel, &name)?;
    let mut order = |what: &str, command: u8, data: &[u8]| {
        ask(APP, command, data).with_context(|| format!("its BMC refuses to {what} for user {place}"))
    };
    let with = |operation: u8| [&[place, operation], &password[..]].concat();
    order("set a name", SET_USER_NAME, &[&[place], &name[..]].concat())?;
    order("set a password", SET_USER_PASSWORD, &with(2))?;
    // May change; link authentication and messaging are on.
    order("give an administrator's rights", SET_USER_ACCESS, &[0xb0 | channel, place, 4])?;
    order("let in", SET_USER_PASSWORD, &[place, 1])?;
    order("take the password that was set", SET_USER_PASSWORD, &with(3))?;
    Ok(())
}

/// The number of the user that has the name, or else of the first that has none.
fn place(ask: AskBmc<'_>, channel: u8, name: &[u8; LENGTH]) -> anyhow::Result<u8> {
    let access = ask(APP, GET_USER_ACCESS, &[channel, 1]);
    let most = access
        .and_then(|answer| answer.first().copied())
        .context("its BMC does not say how many users it has")?
        & 0x3f;
    let mut free = None;
    for number in FIRST..=most {
        let Some(known) = ask(APP, GET_USER_NAME, &[number]) else { continue };
        if known.get(..LENGTH) == Some(&name[..]) {
            return Ok(number);
        }
        if known.iter().all(|byte| *byte == 0) {
            free = free.or(Some(number));
        }
    }
    free.with_context(|| format!("all {most} users of its BMC are somebody's"))
}

fn padded(text: &str) -> Option<[u8; LENGTH]> {
    let mut padded = [0; LENGTH];
    padded.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The users of a BMC: names, passwords, rights and whether they are let in.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct User {
        name: String,
        password: String,
        rights: u8,
        let_in: bool,
    }

    #[derive(Debug, Clone)]
    struct Bmc {
        users: Vec<User>,
        refuses: Option<u8>,
    }

    impl Bmc {
        fn with(names: &[&str]) -> Bmc {
            let user = |name: &&str| User { name: (*name).to_owned(), ..User::default() };
            Bmc { users: names.iter().map(user).collect(), refuses: None }
        }

        fn answer(&mut self, function: u8, command: u8, data: &[u8]) -> Option<Vec<u8>> {
            assert_eq!(function, APP);
            if self.refuses == Some(command) {
                return None;
            }
            let text = |bytes: &[u8]| {
                String::from_utf8(bytes.iter().copied().take_while(|byte| *byte != 0).collect()).unwrap()
            };
            let most = u8::try_from(self.users.len()).unwrap();
            if command == GET_USER_ACCESS {
                return Some(vec![0xc0 | most, 1, 0, 0]);
            }
            let number = if command == SET_USER_ACCESS { data[1] } else { data[0] };
            let user = self.users.get_mut(usize::from(number) - 1)?;
            match command {
                GET_USER_NAME => return Some(padded(&user.name)?.to_vec()),
                SET_USER_NAME => user.name = text(&data[1..17]),
                SET_USER_ACCESS => {
                    assert_eq!(data[0], 0xb0 | 8);
                    user.rights = data[2];
                }
                SET_USER_PASSWORD => match data[1] {
                    1 => user.let_in = true,
                    2 => user.password = text(&data[2..18]),
                    3 => return (user.password == text(&data[2..18])).then(Vec::new),
                    other => panic!("operation {other}"),
                },
                other => panic!("command {other:#x}"),
            }
            Some(Vec::new())
        }

        fn make(&mut self) -> Result<(), String> {
            let account = BmcAccount { user: "elisandra".into(), password: "eE1-0123456789ab".into() };
            make(&mut |function, command, data| self.answer(function, command, data), 8, &account)
                .map_err(|error| format!("{error:#}"))
        }
    }

    fn ours() -> User {
        User { name: "elisandra".into(), password: "eE1-0123456789ab".into(), rights: 4, let_in: true }
    }

    #[test]
    fn the_first_place_that_is_nobodys_is_taken_and_no_other_is_touched() {
        let mut bmc = Bmc::with(&["", "ADMIN", "", ""]);
        bmc.make().unwrap();
        let mut then = Bmc::with(&["", "ADMIN", "", ""]).users;
        then[2] = ours();
        assert_eq!(bmc.users, then, "the nameless first one is not taken");
    }

    #[test]
    fn made_again_it_is_the_same() {
        let mut bmc = Bmc::with(&["", "", "root", "elisandra", ""]);
        bmc.make().unwrap();
        bmc.make().unwrap();
        let mut then = Bmc::with(&["", "", "root", "elisandra", ""]).users;
        then[3] = ours();
        assert_eq!(bmc.users, then);
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let mut full = Bmc::with(&["", "root", "ada"]);
        assert_eq!(full.make().unwrap_err(), "all 3 users of its BMC are somebody's");
        for (command, said) in [
            (GET_USER_ACCESS, "does not say how many users it has"),
            (SET_USER_NAME, "refuses to set a name for user 2"),
            (SET_USER_PASSWORD, "refuses to set a password for user 2"),
            (SET_USER_ACCESS, "refuses to give an administrator's rights for user 2"),
        ] {
            let mut bmc = Bmc { refuses: Some(command), ..Bmc::with(&["", "", ""]) };
            let error = bmc.make().unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("eE1-"), "{error}");
        }
        // Names that it does not tell may be somebody's.
        let mut silent = Bmc { refuses: Some(GET_USER_NAME), ..Bmc::with(&["", "", ""]) };
        assert_eq!(silent.make().unwrap_err(), "all 3 users of its BMC are somebody's");
    }
}

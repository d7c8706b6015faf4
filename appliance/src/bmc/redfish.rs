//! Redfish (DMTF DSP0266), as leniently as vendors keep it: what is not needed may be missing or spelt otherwise.

mod connection;
mod document;
mod pin;

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::driver::Address;
use super::{BmcError, Endpoint, Identity, Login, Power};
use connection::{Answer, Connection};
use document::{at, link, links, power, text, words};

pub(super) struct Redfish {
    connection: Connection,
    /// The path of the machine's ComputerSystem.
    system: String,
}

/// Whether a service root is there, which needs no login.
pub(super) async fn is_there(address: &Address, answer: Duration) -> bool {
    let Ok(connection) = Connection::new(address, None, answer) else { return false };
    let root = connection.get(connection::ROOT).await;
    root.is_ok_and(|root| {
        text(&root.body, "RedfishVersion").is_some() || link(at(&root.body, "Systems")).is_some()
    })
}

impl Redfish {
    /// Logs in and finds the machine.
    pub async fn open(
        endpoint: &Endpoint,
        login: Option<&Login>,
        answer: Duration,
    ) -> Result<Redfish, BmcError> {
        let address = Address::parse(&endpoint.address)?;
        let login = login.ok_or_else(|| BmcError::NoLogin { address: address.text.clone() })?;
        let mut connection = Connection::new(&address, endpoint.pin.as_deref(), answer)?;
        let root = connection.log_in(login).await?;
        match find_system(&connection, &root, endpoint.system.as_deref()).await {
            Ok(system) => Ok(Redfish { connection, system }),
            Err(error) => {
                connection.log_out().await;
                Err(error)
            }
        }
    }

    pub fn address(&self) -> &str {
        &self.connection.address
    }

    pub async fn close(mut self) {
        self.connection.log_out().await;
    }

    pub async fn identify(&self) -> Result<Identity, BmcError> {
        let system = self.connection.get(&self.system).await?.body;
        Ok(Identity {
            vendor: text(&system, "Manufacturer"),
            model: text(&system, "Model"),
            serial: text(&system, "SerialNumber"),
            uuid: text(&system, "UUID").map(|uuid| uuid.to_ascii_lowercase()),
            power: power(&system),
            certificate: self.connection.certificate(),
        })
    }

    pub async fn power(&self) -> Result<Power, BmcError> {
        let system = self.connection.get(&self.system).await?.body;
        power(&system).ok_or_else(|| {
            let said = text(&system, "PowerState").unwrap_or_else(|| "no PowerState".to_owned());
            BmcError::unclear(self.address(), "the question for its power", said)
        })
    }

    pub async fn order(&self, wanted: Power, before: Option<Power>) -> Result<(), BmcError> {
        let system = self.connection.get(&self.system).await?.body;
        let reset = at(at(&system, "Actions"), "#ComputerSystem.Reset");
        let target = text(reset, "target")
            .unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", self.system.trim_end_matches('/')));
        let offered = self.reset_types(reset).await;
        // A chassis can often be switched, too, but it may be that of several machines.
        // A button only turns things round: it is pressed when the machine is known to be the other way.
        let ways: &[&str] = match (wanted, before) {
            (Power::Off, Some(Power::On)) => &["ForceOff", "PushPowerButton"],
            (Power::Off, _) => &["ForceOff"],
            (Power::On, Some(Power::Off)) => &["On", "ForceOn", "PushPowerButton"],
            (Power::On, _) => &["On", "ForceOn"],
        };
        let spelt = |way: &&str| offered.iter().find(|offer| offer.eq_ignore_ascii_case(way)).cloned();
        let mut chosen: Vec<String> = ways.iter().filter_map(spelt).collect();
        if chosen.is_empty() {
            // Lists of what is allowed are missing or wrong on some; the first is what all should have.
            chosen.push(ways[0].to_owned());
        }
        let mut refusal = None;
        for way in chosen {
            let answer =
                self.connection.send(Method::POST, &target, Some(&json!({ "ResetType": way })), None).await?;
            match refused(self.address(), &format!("the order {way}"), &answer) {
                None => return Ok(()),
                Some(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or_else(|| self.lacks(&format!("switch its machine {wanted}"))))
    }

    async fn reset_types(&self, reset: &Value) -> Vec<String> {
        let listed = words(at(reset, "ResetType@Redfish.AllowableValues"));
        if !listed.is_empty() {
            return listed;
        }
        let Some(info) = text(reset, "@Redfish.ActionInfo") else { return Vec::new() };
        let Ok(info) = self.connection.get(&info).await else { return Vec::new() };
        let parameters = at(&info.body, "Parameters").as_array().cloned().unwrap_or_default();
        let of_reset =
            parameters.iter().find(|parameter| text(parameter, "Name").as_deref() == Some("ResetType"));
        of_reset.map(|parameter| words(at(parameter, "AllowableValues"))).unwrap_or_default()
    }

    pub async fn boot_from_network_once(&self) -> Result<(), BmcError> {
        let system = self.connection.get(&self.system).await?;
        // Some take such settings in a place of their own and carry them out at the next start.
        let settings = link(at(at(&system.body, "@Redfish.Settings"), "SettingsObject"));
        let pending = match &settings {
            Some(path) => self.connection.get(path).await.ok().filter(|it| !at(&it.body, "Boot").is_null()),
            None => None,
        };
        let (path, current) = match (settings, pending) {
            (Some(path), Some(pending)) => (path, pending),
            _ => (self.system.clone(), system),
        };
        let boot = at(&current.body, "Boot");
        let offered = words(at(boot, "BootSourceOverrideTarget@Redfish.AllowableValues"));
        let pxe = offered.iter().find(|offer| offer.eq_ignore_ascii_case("Pxe"));
        if !offered.is_empty() && pxe.is_none() {
            return Err(self.lacks("boot from the network"));
        }
        let pxe = pxe.map_or("Pxe", String::as_str);
        let mut change = json!({ "BootSourceOverrideTarget": pxe, "BootSourceOverrideEnabled": "Once" });
        // Supermicro goes back to Legacy unless the mode is said again; others know no mode.
        if let Some(mode) = text(boot, "BootSourceOverrideMode") {
            change["BootSourceOverrideMode"] = mode.into();
        }
        let mut answer = self.patch(&path, &current, &json!({ "Boot": change })).await?;
        if !answer.status.is_success()
            && let Some(fields) = change.as_object_mut()
            && fields.remove("BootSourceOverrideMode").is_some()
        {
            answer = self.patch(&path, &current, &json!({ "Boot": change })).await?;
        }
        let step = "the order to boot from the network";
        if let Some(error) = refused(self.address(), step, &answer) {
            return Err(error);
        }
        if path == self.system {
            let after = self.connection.get(&self.system).await?.body;
            let kept = text(at(&after, "Boot"), "BootSourceOverrideTarget");
            if let Some(kept) = kept.filter(|kept| !kept.eq_ignore_ascii_case(pxe)) {
                return Err(BmcError::unclear(self.address(), step, format!("success, and keeps {kept}")));
            }
        }
        Ok(())
    }

    pub async fn light(&self, on: bool) -> Result<(), BmcError> {
        let system = self.connection.get(&self.system).await?;
        let chassis = links(at(at(&system.body, "Links"), "Chassis")).into_iter().next();
        let mut places = vec![(self.system.clone(), system)];
        if let Some(path) = chassis
            && let Ok(answer) = self.connection.get(&path).await
        {
            places.push((path, answer));
        }
        let mut refusal = None;
        for (path, current) in &places {
            // The older key takes words, of which one lamp can show all and another two.
            let changes: Vec<Value> = if !at(&current.body, "LocationIndicatorActive").is_null() {
                vec![json!({ "LocationIndicatorActive": on })]
            } else if at(&current.body, "IndicatorLED").is_null() {
                Vec::new()
            } else if on {
                vec![json!({ "IndicatorLED": "Blinking" }), json!({ "IndicatorLED": "Lit" })]
            } else {
                vec![json!({ "IndicatorLED": "Off" })]
            };
            for change in changes {
                let answer = self.patch(path, current, &change).await?;
                match refused(self.address(), "the order to light its lamp", &answer) {
                    None => return Ok(()),
                    Some(error) => refusal = Some(error),
                }
            }
        }
        Err(refusal.unwrap_or_else(|| self.lacks("light a lamp")))
    }

    /// Some want to hear the version that is changed, some only a strong one, and some none.
    async fn patch(&self, path: &str, current: &Answer, change: &Value) -> Result<Answer, BmcError> {
        let version = current.etag.clone().or_else(|| text(&current.body, "@odata.etag"));
        let strong = version.as_deref().map(|version| version.trim_start_matches("W/").to_owned());
        let mut tries = vec![version, strong, Some("*".to_owned()), None];
        tries.dedup();
        let mut last = None;
        for version in tries {
            let answer = self.connection.send(Method::PATCH, path, Some(change), version.as_deref()).await?;
            let wants_other =
                matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED);
            if !wants_other {
                return Ok(answer);
            }
            last = Some(answer);
        }
        last.ok_or_else(|| self.lacks("take settings"))
    }

    fn lacks(&self, what: &str) -> BmcError {
        BmcError::Lacks { address: self.address().to_owned(), what: what.to_owned() }
    }
}

fn refused(address: &str, step: &str, answer: &Answer) -> Option<BmcError> {
    if answer.status.is_success() {
        return None;
    }
    let said = document::message(&answer.body).unwrap_or_default();
    Some(BmcError::unclear(address, step, format!("{} {said}", answer.status)))
}

/// The path of the machine that `wanted` names, or of the only one.
async fn find_system(
    connection: &Connection,
    root: &Value,
    wanted: Option<&str>,
) -> Result<String, BmcError> {
    let address = || connection.address.clone();
    let systems = link(at(root, "Systems")).unwrap_or_else(|| "/redfish/v1/Systems".to_owned());
    let members = links(at(&connection.get(&systems).await?.body, "Members"));
    let Some(wanted) = wanted else {
        return match members.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(BmcError::Lacks { address: address(), what: "find a machine (no Systems)".to_owned() }),
            _ => Err(BmcError::Several { address: address(), there: members.join(", ") }),
        };
    };
    let mut there = Vec::new();
    // Few have more than a handful; a BMC that names thousands is not believed.
    for path in members.iter().take(64) {
        let system = connection.get(path).await?.body;
        let uuid = text(&system, "UUID").filter(|uuid| !document::is_blank_uuid(uuid));
        let id = text(&system, "Id");
        if path == wanted || id.as_deref() == Some(wanted) {
            return Ok(path.clone());
        }
        match uuid {
            Some(uuid) if document::same_uuid(&uuid, wanted) => return Ok(path.clone()),
            Some(uuid) => there.push(uuid),
            // The only one, and it does not say who it is: there is nothing to hold against it.
            None if members.len() == 1 && uuid::Uuid::try_parse(wanted).is_ok() => return Ok(path.clone()),
            None => there.push(id.unwrap_or_else(|| path.clone())),
        }
    }
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Err(BmcError::OtherMachine { address: address(), wanted: wanted.to_owned(), there })
}

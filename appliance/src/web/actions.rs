//! What a person can order of a machine beyond its installation. The machine's document says which of it can be done
//! now, and why the rest cannot; here stands how a person is asked. A new action is a line of [`ACTIONS`].

use serde_json::Value;

use crate::api::machines::Machine;

struct Action {
    /// As the document calls it.
    word: &'static str,
    label: &'static str,
    /// Below the machine's own, and what it is sent.
    route: &'static str,
    body: &'static str,
    /// What comes of it.
    text: &'static str,
    danger: bool,
}

const fn action(
    word: &'static str,
    label: &'static str,
    order: (&'static str, &'static str),
    text: &'static str,
    danger: bool,
) -> Action {
    Action { word, label, route: order.0, body: order.1, text, danger }
}

#[rustfmt::skip]
const ACTIONS: [Action; 7] = [
    action("power-on",     "Power on",     ("power", r#"{"action":"on"}"#),    "Its BMC switches it on.", false),
    action("power-off",    "Power off",    ("power", r#"{"action":"off"}"#),   "Its BMC takes its power away at once. What runs on it is not asked.", true),
    action("power-cycle",  "Power cycle",  ("power", r#"{"action":"cycle"}"#), "Its BMC takes its power away and gives it back. What runs on it is not asked.", true),
    action("fence",        "Fence",        ("fence", "{}"),                    "Its power is taken away, and only when that is proven are its VMs started elsewhere.", true),
    action("unfence",      "Unfence",      ("unfence", "{}"),                  "It is trusted again, and takes VMs.", false),
    action("identify",     "Identify",     ("identify", r#"{"on":true}"#),     "A lamp on it is lit, so that it is found in its rack.", false),
    action("identify-off", "Lamp off",     ("identify", r#"{"on":false}"#),    "The lamp on it goes out.", false),
];

/// Has a dialog of its own, because a person chooses more.
const REIMAGE: &str = "reimage";

/// A button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub label: &'static str,
    pub path: String,
    pub body: &'static str,
    pub text: &'static str,
    pub danger: bool,
    /// Why it cannot be pressed now.
    pub refusal: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    pub simple: Vec<Offer>,
    /// Whether it can be installed anew, or why not now.
    pub reimage: Option<Result<(), String>>,
    /// Whether a BMC can be told of; its address, if it is known.
    pub bmc: Option<String>,
}

/// What the document of a machine offers.
pub fn of(machine: &Machine) -> Offers {
    offers(&machine.id.to_string(), &serde_json::to_value(machine).unwrap_or_default())
}

fn offers(id: &str, document: &Value) -> Offers {
    let said = document["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refusal = |it: &Value| it["refusal"].as_str().map(str::to_owned);
    let of = |word: &str| said.iter().find(|it| it["do"] == word);
    let simple = ACTIONS.iter().filter_map(|action| {
        let refusal = refusal(of(action.word)?);
        let path = format!("/machines/{id}/{}", action.route);
        let Action { label, body, text, danger, .. } = *action;
        Some(Offer { label, path, body, text, danger, refusal })
    });
    Offers {
        simple: simple.collect(),
        reimage: of(REIMAGE).map(|it| refusal(it).map_or(Ok(()), Err)),
        bmc: document.get("bmc").map(|bmc| bmc["address"].as_str().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_document_offers_is_a_button_and_what_it_refuses_says_why() {
        let document = json!({
            "bmc": { "kind": "redfish", "address": "10.0.0.9" },
            "actions": [
                { "do": "power-off", "refusal": null },
                { "do": "power-on", "refusal": "it is on" },
                { "do": "reimage", "refusal": "host-1 carries build-1" },
                { "do": "something-new", "refusal": null },
            ],
        });
        let offers = offers("m7", &document);
        let seen: Vec<(&str, &str, Option<&str>)> = offers
            .simple
            .iter()
            .map(|offer| (offer.label, offer.path.as_str(), offer.refusal.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [("Power on", "/machines/m7/power", Some("it is on")), ("Power off", "/machines/m7/power", None)]
        );
        assert_eq!(offers.reimage, Some(Err("host-1 carries build-1".to_owned())));
        assert_eq!(offers.bmc.as_deref(), Some("10.0.0.9"));
        for action in ACTIONS {
            serde_json::from_str::<Value>(action.body).unwrap();
        }
    }

    #[test]
    fn a_machine_without_a_bmc_offers_nothing_of_it() {
        assert_eq!(offers("m1", &json!({ "name": "host-1" })), Offers::default());
    }
}

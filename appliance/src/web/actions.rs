//! What a person can order of a machine beyond its installation. The machine's document says which of it can be done
//! now, and why the rest cannot; here stands how a person is asked. A new action is a line of `ACTIONS`.

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
const ACTIONS: [Action; 11] = [
    action("power-on",     "Power on",     ("power", r#"{"action":"on"}"#),    "Its BMC or its power strip switches it on.", false),
    action("power-off",    "Power off",    ("power", r#"{"action":"off"}"#),   "Its BMC or its power strip takes its power away at once. What runs on it is not asked.", true),
    action("power-cycle",  "Power cycle",  ("power", r#"{"action":"cycle"}"#), "Its BMC or its power strip takes its power away and gives it back. What runs on it is not asked.", true),
    action("fence",        "Fence",        ("fence", "{}"),                    "Its power is taken away, and only when that is proven are its VMs started elsewhere.", true),
    action("unfence",      "Unfence",      ("unfence", "{}"),                  "It is trusted again, and takes VMs.", false),
    action("check",        "Check disks",  ("check", r#"{"on":true}"#),        "Its disks are read from end to end, and asked what they say of themselves. Nothing on them is changed; a host goes on working.", false),
    action("check-off",    "End check",    ("check", r#"{"on":false}"#),       "Its disks are read no further.", false),
    action("retire",       "Retire",       ("retire", "{}"),                   "It leaves for good: it gives its addresses back, is switched off if its BMC or its power strip is known, and is not taken up again by itself.", true),
    action("unretire",     "Take back",    ("unretire", "{}"),                 "It is found again, and left alone until a person adopts it.", false),
    action("identify",     "Identify",     ("identify", r#"{"on":true}"#),     "A lamp on it is lit, so that it is found in its rack.", false),
    action("identify-off", "Lamp off",     ("identify", r#"{"on":false}"#),    "The lamp on it goes out.", false),
];

/// Have dialogs of their own, because a person chooses more.
const REIMAGE: &str = "reimage";
const ERASE: &str = "erase";

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
    /// Whether its disks can be erased, or why not now.
    pub erase: Option<Result<(), String>>,
    /// Whether a BMC can be told of; its address, if it is known.
    pub bmc: Option<String>,
    /// Whether its outlets can be told of; what is known of them.
    pub strip: Option<Plugged>,
}

/// The outlets that are known of the first power strip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugged {
    pub agent: String,
    pub address: String,
    pub outlets: String,
}

/// What the document of a machine offers.
pub fn of(machine: &Machine) -> Offers {
    let said = |word: &str| machine.actions.iter().find(|said| said.action == word);
    let simple = ACTIONS.iter().filter_map(|action| {
        let refusal = said(action.word)?.refusal.clone();
        let path = format!("/machines/{}/{}", machine.id, action.route);
        let Action { label, body, text, danger, .. } = *action;
        Some(Offer { label, path, body, text, danger, refusal })
    });
    let bmc = machine.bmc.as_ref().map(|bmc| bmc.address.clone()).unwrap_or_default();
    let strip = machine.outlets.as_ref().and_then(|outlets| outlets.strips.first());
    let strip = strip.map(|strip| Plugged {
        agent: strip.agent.clone(),
        address: strip.address.clone(),
        outlets: strip.outlets.join(", "),
    });
    Offers {
        simple: simple.collect(),
        reimage: said(REIMAGE).map(|said| said.refusal.clone().map_or(Ok(()), Err)),
        erase: said(ERASE).map(|said| said.refusal.clone().map_or(Ok(()), Err)),
        bmc: (!machine.appliance).then_some(bmc),
        strip: (!machine.appliance).then(|| strip.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_json() {
        for action in ACTIONS {
            serde_json::from_str::<serde_json::Value>(action.body).unwrap();
        }
    }
}

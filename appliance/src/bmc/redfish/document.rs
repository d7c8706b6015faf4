//! Reading what a BMC says of itself: keys in any case, and nothing that has to be there.

use serde_json::Value;

use super::Power;
use crate::bmc::error::brief;

/// The value of a key, in whatever case it is spelt; null if it is not there.
pub fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    let Some(object) = value.as_object() else { return &Value::Null };
    object
        .get(key)
        .or_else(|| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))
        .unwrap_or(&Value::Null)
}

/// A text that says something.
pub fn text(value: &Value, key: &str) -> Option<String> {
    let text = at(value, key).as_str()?.trim();
    (!text.is_empty()).then(|| brief(text))
}

pub fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The path in `{"@odata.id": "/…"}`; the oldest write `href`.
pub fn link(value: &Value) -> Option<String> {
    ["@odata.id", "href"].into_iter().find_map(|key| at(value, key).as_str()).map(str::to_owned)
}

pub fn links(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(link).collect()
}

/// Neither for what is between the two, such as PoweringOff.
pub fn power(system: &Value) -> Option<Power> {
    let word = text(system, "PowerState")?;
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "on" | "poweredon" => Some(Power::On),
        "off" | "poweredoff" => Some(Power::Off),
        _ => None,
    }
}

/// The sentence of an error's body.
pub fn message(body: &Value) -> Option<String> {
    let error = at(body, "error");
    let extended = at(error, "@Message.ExtendedInfo");
    let first = extended.as_array().and_then(|all| all.first()).unwrap_or(extended);
    text(first, "Message").or_else(|| text(error, "message"))
}

/// Some firmwares read the first three fields the other way round than their BMC does (SMBIOS 2.6, 7.2.1).
pub fn same_uuid(one: &str, other: &str) -> bool {
    match (uuid::Uuid::try_parse(one), uuid::Uuid::try_parse(other)) {
        (Ok(one), Ok(other)) => one == other || one.to_bytes_le() == *other.as_bytes(),
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// Boards that were never given one say all zeros or all ones.
pub fn is_blank_uuid(uuid: &str) -> bool {
    uuid::Uuid::try_parse(uuid).is_ok_and(|uuid| uuid.is_nil() || uuid.is_max())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_may_be_missing() {
        let system =
            json!({ "powerstate": "Off", "Manufacturer": " ", "Links": { "Chassis": [{ "href": "/c" }] } });
        assert_eq!(power(&system), Some(Power::Off));
        assert_eq!(text(&system, "Manufacturer"), None);
        assert_eq!(text(&system, "Model"), None);
        assert_eq!(links(at(at(&system, "Links"), "Chassis")), ["/c"]);
        assert_eq!(links(at(at(&json!([]), "Links"), "Chassis")), Vec::<String>::new());
    }

    #[test]
    fn what_is_neither_on_nor_off_is_neither() {
        let said = |word: &str| power(&json!({ "PowerState": word }));
        assert_eq!(said("On"), Some(Power::On));
        assert_eq!(said("POWERED_OFF"), Some(Power::Off));
        for word in ["PoweringOff", "PoweringOn", "Paused", "Unknown", "", "offline", "standby"] {
            assert_eq!(said(word), None, "{word}");
        }
        assert_eq!(power(&json!({ "PowerState": null })), None);
        assert_eq!(power(&json!({ "PowerState": false })), None);
    }

    #[test]
    fn a_machine_is_known_by_its_uuid_in_both_orders() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        assert!(same_uuid(uuid, "00112233-4455-6677-8899-AABBCCDDEEFF"));
        assert!(same_uuid(uuid, "33221100-5544-7766-8899-aabbccddeeff"));
        assert!(!same_uuid(uuid, "33221100-4455-6677-8899-aabbccddeeff"));
        assert!(is_blank_uuid("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"));
        assert!(!is_blank_uuid(uuid));
    }
}

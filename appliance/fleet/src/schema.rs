//! JSON Schemas of what is written as one text or number, and of orders and events.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::power::Kind as PowerKind;
use crate::scope::Scope;
use crate::{Command, Digest, Event, Mac, MachineId, ServiceId, StateHash, Timestamp, VmId};

macro_rules! text {
    ($($name:ident: $pattern:literal, $what:literal;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    )*};
}

text! {
    MachineId: "^m[0-9]+$", "A machine: m1.";
    VmId: "^v[0-9]+$", "A VM: v1.";
    ServiceId: "^s[0-9]+$", "A service: s1.";
    Mac: "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$", "A hardware address (IEEE 802): 52:54:00:ab:cd:ef.";
    PowerKind: "^(redfish|ipmi|fence_[a-z0-9_]{1,40})$", "What switches a machine: redfish, ipmi, or a fence agent.";
    Scope: "^[ ,]*[a-z_]+(:read)?([ ,]+[a-z_]+(:read)?)*[ ,]*$", "What a token is for: vms machines:read create_vm.";
    StateHash: "^[0-9a-f]{64}$", "SHA-256 of everything the log comes to.";
    Digest: "^[0-9a-f]{64}$", "SHA-256 of what a plan does.";
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "description": "Milliseconds since 1970-01-01T00:00:00Z." })
    }
}

/// Which fields follow depends on the order. Whoever sends one has it from a plan.
impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["command"],
            "properties": { "command": { "type": "string" } },
            "description": "An order as the log has it, as a plan gives it out."
        })
    }
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "description": "An event as the log has it." })
    }
}

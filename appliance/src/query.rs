//! Questions about the site, now and as of any moment of the log: objects of a noun for which an expression holds.

pub mod expression;
pub mod field;
pub mod nouns;
pub mod time;
mod version;

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq};

use expression::Expression;
pub use expression::WrongExpression;
use field::{Cell, Field, Kind, Scene};
use nouns::SwitchPort;

use crate::api::images;
use crate::store::Record;

/// After so long an answer is given up: the appliance has other things to do.
const LIMIT: Duration = Duration::from_secs(10);

/// What there is to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    Machines,
    Hosts,
    Vms,
    Volumes,
    Images,
    Services,
    Packages,
    Racks,
    Switches,
    Ports,
    Media,
    Profiles,
    Leases,
    Subnets,
    Reservations,
    Users,
    Tenants,
    Events,
}

/// A field as it is told to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Field")]
pub struct About {
    pub name: &'static str,
    pub kind: Kind,
    pub about: &'static str,
    pub column: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub noun: Noun,
    /// Everything, without one.
    pub filter: Option<String>,
    /// Every field, if none is named.
    pub fields: Vec<String>,
}

impl Noun {
    pub const ALL: [Noun; 18] = [
        Noun::Machines,
        Noun::Hosts,
        Noun::Vms,
        Noun::Volumes,
        Noun::Images,
        Noun::Services,
        Noun::Packages,
        Noun::Racks,
        Noun::Switches,
        Noun::Ports,
        Noun::Media,
        Noun::Profiles,
        Noun::Leases,
        Noun::Subnets,
        Noun::Reservations,
        Noun::Users,
        Noun::Tenants,
        Noun::Events,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Noun::Machines => "machines",
            Noun::Hosts => "hosts",
            Noun::Vms => "vms",
            Noun::Volumes => "volumes",
            Noun::Images => "images",
            Noun::Services => "services",
            Noun::Packages => "packages",
            Noun::Racks => "racks",
            Noun::Switches => "switches",
            Noun::Ports => "ports",
            Noun::Media => "media",
            Noun::Profiles => "profiles",
            Noun::Leases => "leases",
            Noun::Subnets => "subnets",
            Noun::Reservations => "reservations",
            Noun::Users => "users",
            Noun::Tenants => "tenants",
            Noun::Events => "events",
        }
    }

    /// By its word or the singular of it.
    pub fn named(word: &str) -> Result<Noun, WrongExpression> {
        let known = Noun::ALL.into_iter().find(|noun| {
            let plural = noun.word();
            plural == word
                || plural.strip_suffix("es").or(plural.strip_suffix('s')) == Some(word)
                || plural.strip_suffix('s') == Some(word)
                || (*noun == Noun::Media && word == "medium")
        });
        known.ok_or_else(|| {
            let words: Vec<&str> = Noun::ALL.into_iter().map(Noun::word).collect();
            WrongExpression(format!("{word} is not a noun; there are {}", words.join(", ")))
        })
    }

    pub fn fields(self) -> Vec<About> {
        match self {
            Noun::Machines => about(nouns::MACHINES),
            Noun::Hosts => about(nouns::HOSTS),
            Noun::Vms => about(nouns::VMS),
            Noun::Volumes => about(nouns::VOLUMES),
            Noun::Images => about(nouns::IMAGES),
            Noun::Services => about(nouns::SERVICES),
            Noun::Packages => about(nouns::PACKAGES),
            Noun::Racks => about(nouns::RACKS),
            Noun::Switches => about(nouns::SWITCHES),
            Noun::Ports => about(nouns::PORTS),
            Noun::Media => about(nouns::MEDIA),
            Noun::Profiles => about(nouns::PROFILES),
            Noun::Leases => about(nouns::LEASES),
            Noun::Subnets => about(nouns::SUBNETS),
            Noun::Reservations => about(nouns::RESERVATIONS),
            Noun::Users => about(nouns::USERS),
            Noun::Tenants => about(nouns::TENANTS),
            Noun::Events => about(nouns::EVENTS),
        }
    }
}

impl Question {
    /// The objects as a JSON array. Takes a while: to be called where nothing else waits, on a stack of some
    /// megabytes. `log` is read only if events are asked for.
    pub fn answer(
        &self,
        scene: &Scene,
        log: impl Iterator<Item = Record>,
    ) -> Result<Vec<u8>, WrongExpression> {
        let fleet = &scene.fleet;
        match self.noun {
            Noun::Machines => self.select(scene, nouns::MACHINES, fleet.machines.values().map(AsRef::as_ref)),
            Noun::Hosts => self.select(scene, nouns::HOSTS, fleet.hosts.values().map(AsRef::as_ref)),
            Noun::Vms => self.select(scene, nouns::VMS, fleet.vms.values().map(AsRef::as_ref)),
            Noun::Volumes => self.select(scene, nouns::VOLUMES, fleet.vms.values().map(AsRef::as_ref)),
            Noun::Images => self.select(scene, nouns::IMAGES, images::of_fleet(fleet).into_iter()),
            Noun::Services => self.select(scene, nouns::SERVICES, fleet.services.values().map(AsRef::as_ref)),
            Noun::Packages => self.select(scene, nouns::PACKAGES, fleet.packages.values().map(AsRef::as_ref)),
            Noun::Racks => self.select(scene, nouns::RACKS, fleet.racks.values().map(AsRef::as_ref)),
            Noun::Switches => self.select(scene, nouns::SWITCHES, fleet.switches.values().map(AsRef::as_ref)),
            Noun::Ports => {
                let switches = fleet.switches.values();
                let ports = switches.flat_map(|switch| {
                    switch.ports.iter().map(|(name, port)| SwitchPort {
                        switch: switch.name.clone(),
                        name: name.clone(),
                        port: port.clone(),
                    })
                });
                self.select(scene, nouns::PORTS, ports)
            }
            Noun::Media => self.select(scene, nouns::MEDIA, fleet.media.values().map(AsRef::as_ref)),
            Noun::Profiles => self.select(scene, nouns::PROFILES, fleet::profile::all(fleet)),
            Noun::Subnets => self.select(scene, nouns::SUBNETS, fleet::subnet::all(fleet)),
            Noun::Reservations => self.select(scene, nouns::RESERVATIONS, fleet.leases.reserved.iter()),
            Noun::Users => self.select(scene, nouns::USERS, fleet::user::all(fleet)),
            Noun::Tenants => {
                let tenants = fleet.tenants.values().map(|tenant| fleet::tenant::Tenant::clone(tenant));
                self.select(scene, nouns::TENANTS, tenants)
            }
            Noun::Events => self.select(scene, nouns::EVENTS, log),
            Noun::Leases => self.select(scene, nouns::LEASES, fleet.leases.given.iter()),
        }
    }

    pub(crate) fn select<T: Sync>(
        &self,
        scene: &Scene,
        fields: &'static [Field<T>],
        objects: impl Iterator<Item = impl Borrow<T>>,
    ) -> Result<Vec<u8>, WrongExpression> {
        let noun = self.noun.word();
        let filter = self.filter.as_deref().map(|text| Expression::read(text, noun, fields)).transpose()?;
        let shown = shown(noun, fields, &self.fields)?;
        let start = Instant::now();
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut json);
        let unwritable = |error: serde_json::Error| WrongExpression(error.to_string());
        let mut list = serde::Serializer::serialize_seq(&mut serializer, None).map_err(unwritable)?;
        for object in objects {
            let object: &T = object.borrow();
            if let Some(filter) = &filter
                && !filter.holds(scene, object)?
            {
                continue;
            }
            if start.elapsed() > LIMIT {
                let secs = LIMIT.as_secs();
                return Err(WrongExpression(format!("this took longer than {secs} s; ask for less at once")));
            }
            list.serialize_element(&Object { scene, object, fields: &shown }).map_err(unwritable)?;
        }
        SerializeSeq::end(list).map_err(unwritable)?;
        Ok(json)
    }
}

fn about<T>(fields: &[Field<T>]) -> Vec<About> {
    let about = fields.iter().map(|field| About {
        name: field.name,
        kind: field.kind,
        about: field.about,
        column: field.column,
    });
    about.collect()
}

fn shown<T>(
    noun: &str,
    fields: &'static [Field<T>],
    wanted: &[String],
) -> Result<Vec<&'static Field<T>>, WrongExpression> {
    if wanted.is_empty() {
        return Ok(fields.iter().collect());
    }
    let find = |wanted: &String| {
        fields.iter().find(|field| field.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            WrongExpression(format!(
                "{wanted} is not a field of {noun}\nFields of {noun}: {}",
                names.join(", ")
            ))
        })
    };
    wanted.iter().map(find).collect()
}

struct Object<'a, T: 'static> {
    scene: &'a Scene,
    object: &'a T,
    fields: &'a [&'static Field<T>],
}

impl<T> Serialize for Object<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            let cell: Cell<'_> = (field.get)(self.scene, self.object);
            map.serialize_entry(field.name, &cell)?;
        }
        map.end()
    }
}

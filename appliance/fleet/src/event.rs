//! Events: facts of the past, as they stand in the log, and `evolve`, which folds them into the fleet.

use serde::{Deserialize, Serialize};

use crate::{
    Fleet, Subject, host, lease, machine, medium, package, power, profile, rack, restore, service, site,
    subnet, switch, tenant, user, vm,
};

/// One fact. Its JSON is `{"noun":"machine","event":"adopted",…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "noun", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "what is put back is rare, and is whole")]
pub enum Event {
    Site(site::Event),
    Lease(lease::Event),
    Machine(machine::Event),
    Power(power::Event),
    Erase(machine::EraseEvent),
    Check(machine::CheckEvent),
    Host(host::Event),
    Vm(vm::Event),
    Package(package::Event),
    Service(service::Event),
    Rack(rack::Event),
    Switch(switch::Event),
    Medium(medium::Event),
    Profile(profile::Event),
    Subnet(subnet::Event),
    User(user::Event),
    Tenant(tenant::Event),
    Restore(restore::Event),
}

impl Event {
    /// Version of the body's shape, stored beside it.
    pub const VERSION: i64 = 1;

    /// What the event is about: an id, an address, or `site`. The timeline of a thing is the events of its subject.
    pub fn subject(&self) -> String {
        match self {
            Event::Site(_) => "site".to_owned(),
            Event::Lease(event) => event.subject(),
            Event::Machine(event) => event.machine().to_string(),
            Event::Power(event) => event.machine().to_string(),
            Event::Erase(event) => event.machine().to_string(),
            Event::Check(event) => event.machine().to_string(),
            Event::Host(event) => event.machine().to_string(),
            Event::Vm(event) => event.vm().to_string(),
            Event::Package(event) => event.name().to_owned(),
            Event::Service(event) => event.service().to_string(),
            Event::Rack(event) => event.subject(),
            Event::Switch(event) => event.subject(),
            Event::Medium(event) => event.subject(),
            Event::Profile(event) => event.subject(),
            Event::Subnet(event) => event.subject(),
            Event::User(event) => event.subject(),
            Event::Tenant(event) => event.subject(),
            Event::Restore(event) => event.subject(),
        }
    }

    /// What it is about, if that is something that is planned.
    pub(crate) fn planned(&self) -> Option<Subject> {
        match self {
            Event::Machine(event) => Some(Subject::Machine(event.machine())),
            Event::Power(event) => Some(Subject::Machine(event.machine())),
            Event::Erase(event) => Some(Subject::Machine(event.machine())),
            Event::Check(event) => Some(Subject::Machine(event.machine())),
            Event::Host(event) => Some(Subject::Machine(event.machine())),
            Event::Vm(event) => Some(Subject::Vm(event.vm())),
            Event::Service(event) => Some(Subject::Service(event.service())),
            Event::Restore(event) => event.planned(),
            Event::Site(_)
            | Event::Lease(_)
            | Event::Package(_)
            | Event::Rack(_)
            | Event::Switch(_)
            | Event::Medium(_)
            | Event::Profile(_)
            | Event::Subnet(_)
            | Event::User(_)
            | Event::Tenant(_) => None,
        }
    }

    /// What is left over by it and nobody looks after any more, as sentences.
    pub fn leftovers(&self) -> &[String] {
        match self {
            Event::Machine(event) => event.leftovers(),
            Event::Power(event) => event.leftovers(),
            Event::Erase(event) => event.leftovers(),
            Event::Vm(event) => event.leftovers(),
            Event::Package(event) => event.leftovers(),
            Event::Service(event) => event.leftovers(),
            Event::Rack(event) => event.leftovers(),
            Event::Switch(event) => event.leftovers(),
            Event::Medium(event) => event.leftovers(),
            Event::Profile(event) => event.leftovers(),
            Event::Subnet(event) => event.leftovers(),
            Event::Site(_)
            | Event::Lease(_)
            | Event::Check(_)
            | Event::Host(_)
            | Event::User(_)
            | Event::Tenant(_)
            | Event::Restore(_) => &[],
        }
    }

    /// The event as a sentence of the timeline.
    pub fn sentence(&self) -> String {
        let fact = self.fact();
        match self.leftovers() {
            [] => fact,
            leftovers => format!("{fact}. Left over: {}", leftovers.join("; ")),
        }
    }

    fn fact(&self) -> String {
        match self {
            Event::Site(event) => event.to_string(),
            Event::Lease(event) => event.to_string(),
            Event::Machine(event) => event.to_string(),
            Event::Power(event) => event.to_string(),
            Event::Erase(event) => event.to_string(),
            Event::Check(event) => event.to_string(),
            Event::Host(event) => event.to_string(),
            Event::Vm(event) => event.to_string(),
            Event::Package(event) => event.to_string(),
            Event::Service(event) => event.to_string(),
            Event::Rack(event) => event.to_string(),
            Event::Switch(event) => event.to_string(),
            Event::Medium(event) => event.to_string(),
            Event::Profile(event) => event.to_string(),
            Event::Subnet(event) => event.to_string(),
            Event::User(event) => event.to_string(),
            Event::Tenant(event) => event.to_string(),
            Event::Restore(event) => event.to_string(),
        }
    }
}

/// Folds one event into the fleet. Total: an event about something unknown changes nothing.
pub fn evolve(fleet: &mut Fleet, event: &Event) {
    match event {
        Event::Site(event) => site::evolve(fleet, event),
        Event::Lease(event) => lease::evolve(fleet, event),
        Event::Machine(event) => machine::evolve(fleet, event),
        Event::Power(event) => power::evolve(fleet, event),
        Event::Erase(event) => machine::evolve_erase(fleet, event),
        Event::Check(event) => machine::evolve_check(fleet, event),
        Event::Host(event) => host::evolve(fleet, event),
        Event::Vm(event) => vm::evolve(fleet, event),
        Event::Package(event) => package::evolve(fleet, event),
        Event::Service(event) => service::evolve(fleet, event),
        Event::Rack(event) => rack::evolve(fleet, event),
        Event::Switch(event) => switch::evolve(fleet, event),
        Event::Medium(event) => medium::evolve(fleet, event),
        Event::Profile(event) => profile::evolve(fleet, event),
        Event::Subnet(event) => subnet::evolve(fleet, event),
        Event::User(event) => user::evolve(fleet, event),
        Event::Tenant(event) => tenant::evolve(fleet, event),
        Event::Restore(event) => restore::evolve(fleet, event),
    }
}

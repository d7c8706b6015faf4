//! `POST /api/v1/many`: one order for many things, all or none of it.
//!
//! They are named by their ids, or by the address of the list that shows them: `/vms?q=web&is=running`. Of these, an
//! order is given for those that it can be given for; the answer says how many it was not.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use fleet::machine::Phase;
use fleet::{Command, Fleet, MachineId, ServiceId, Subject, VmId, service, vm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::guard::Person;
use super::{Changed, Json, machines};
use crate::web::glance::Moment;
use crate::web::look::View;
use crate::web::{self, nouns};
use crate::{App, core};

/// Things at once. The writer decides them one after another, and others wait meanwhile.
const MOST: usize = 10_000;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Many {
    #[serde(rename = "do")]
    pub order: Do,
    /// Ids of machines, VMs and services.
    #[serde(default)]
    pub ids: Vec<String>,
    /// A list, as its page's address says it.
    #[serde(default)]
    pub of: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Do {
    /// Machines that may be, without wiping what holds data.
    Adopt,
    Cancel,
    Remove,
    Drain,
    Undrain,
}

pub async fn post(
    State(app): State<App>,
    Extension(person): Extension<Person>,
    Json(many): Json<Many>,
) -> Result<axum::Json<Changed>, web::Error> {
    let moment = Moment::of(&app, person.tenant());
    let fleet = &moment.seen.fleet;
    let subjects = subjects(&moment, &many)?;
    let commands: Vec<Command> =
        subjects.iter().filter_map(|subject| command(fleet, many.order, *subject)).collect();
    let left = subjects.len() - commands.len();
    let refused = |sentence: String| web::Error::refused(StatusCode::CONFLICT, sentence);
    if commands.is_empty() {
        return Err(refused(format!("of {} things, this can be done with none", subjects.len())));
    }
    if commands.len() > MOST {
        return Err(refused(format!(
            "these are {} things; {MOST} can be done at once: look for fewer",
            commands.len()
        )));
    }
    let given = commands.len();
    let axum::Json(mut changed) = person.told(&give(&app, &person, commands).await?);
    if person.rehearsal.is_none() {
        changed.changed = vec![match left {
            0 => format!("Ordered for {given}"),
            left => format!(
                "Ordered for {given}; {left} are left as they are, because it cannot be done with them"
            ),
        }];
    }
    Ok(axum::Json(changed))
}

async fn give(
    app: &App,
    person: &Person,
    commands: Vec<Command>,
) -> Result<Vec<fleet::Event>, core::ExecuteError> {
    app.core.execute_all(&person.actor(), commands, None).await
}

fn subjects(moment: &Moment, many: &Many) -> Result<Vec<Subject>, web::Error> {
    let unknown = |sentence: String| web::Error::refused(StatusCode::UNPROCESSABLE_ENTITY, sentence);
    let Some(address) = &many.of else {
        let subject = |id: &String| {
            let machine = id.parse().map(Subject::Machine);
            let known = machine.or_else(|_| id.parse().map(Subject::Vm));
            known.or_else(|_| id.parse().map(Subject::Service))
        };
        let subjects = many.ids.iter().map(|id| {
            subject(id).map_err(|_| unknown(format!("{id:?} is not the id of a machine, VM or service")))
        });
        return subjects.collect();
    };
    let scene = moment.scene();
    let mut subjects: Vec<Subject> = match View::at_address(address) {
        Some(View::Machines(look)) => {
            nouns::machines(scene, &look).into_all().map(|it| Subject::Machine(it.id)).collect()
        }
        Some(View::Hosts(look)) => {
            nouns::hosts(scene, &look).into_all().map(|it| Subject::Machine(it.machine)).collect()
        }
        Some(View::Vms(look)) => nouns::vms(scene, &look).into_all().map(|it| Subject::Vm(it.id)).collect(),
        Some(View::Services(look)) => {
            nouns::services(scene, &look).into_all().map(|it| Subject::Service(it.id)).collect()
        }
        _ => return Err(unknown(format!("{address:?} is not a list of machines, hosts, VMs or services"))),
    };
    subjects.sort_unstable();
    Ok(subjects)
}

/// The order for one thing, where it can be given: as its page would offer it.
fn command(fleet: &Fleet, order: Do, subject: Subject) -> Option<Command> {
    match subject {
        Subject::Machine(id) => of_machine(fleet, order, id),
        Subject::Vm(id) => of_vm(fleet, order, id),
        Subject::Service(id) => of_service(fleet, order, id),
    }
}

fn of_machine(fleet: &Fleet, order: Do, id: MachineId) -> Option<Command> {
    let machine = fleet.machines.get(&id)?;
    let host = fleet.hosts.get(&id);
    match order {
        Do::Adopt => (machines::is_adoptable(machine) && !machines::needs_wiping(machine))
            .then_some(Command::Adopt { machine: id, wipe: false, profile: None, disk: None }),
        Do::Cancel => matches!(machine.phase, Phase::Adopted { .. } | Phase::Installing { .. })
            .then_some(Command::Cancel { subject: Subject::Machine(id) }),
        Do::Remove => (!machine.appliance && fleet.index.usage(id).vms == 0)
            .then_some(Command::RemoveMachine { machine: id, force: false }),
        Do::Drain => host?.draining_since.is_none().then_some(Command::Drain { machine: id }),
        Do::Undrain => host?.draining_since.is_some().then_some(Command::Undrain { machine: id }),
    }
}

fn of_vm(fleet: &Fleet, order: Do, id: VmId) -> Option<Command> {
    let vm = fleet.vms.get(&id)?;
    let free = service::of_vm(fleet, id).next().is_none();
    match order {
        Do::Cancel => {
            (free && vm.phase != vm::Phase::Running).then_some(Command::Cancel { subject: Subject::Vm(id) })
        }
        Do::Remove => {
            (free && vm.phase == vm::Phase::Running).then_some(Command::RemoveVm { vm: id, force: false })
        }
        Do::Adopt | Do::Drain | Do::Undrain => None,
    }
}

fn of_service(fleet: &Fleet, order: Do, id: ServiceId) -> Option<Command> {
    let service = fleet.services.get(&id)?;
    match order {
        Do::Cancel => (service.phase != service::Phase::Answering)
            .then_some(Command::Cancel { subject: Subject::Service(id) }),
        Do::Remove => (service.phase == service::Phase::Answering)
            .then_some(Command::RemoveService { service: id, force: false }),
        Do::Adopt | Do::Drain | Do::Undrain => None,
    }
}

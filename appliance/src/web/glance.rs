//! What every page says of the whole site: worked out once for each plan, and not for each page.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use fleet::{Fleet, MachineId, Observed, Plan, ServiceId, Subject, VmId};

use super::list::Scene;
use super::overview::asks;
use crate::{App, core};

/// How many there are of each noun, for the navigation.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub machines: usize,
    pub hosts: usize,
    pub vms: usize,
    pub services: usize,
    /// Of what the lists show, what waits for a person.
    pub machines_asking: usize,
    pub vms_asking: usize,
    pub services_asking: usize,
}

#[derive(Debug, Default)]
pub struct Glance {
    pub counts: Counts,
    pub hinted: Hinted,
}

/// What a person could do something about. Of most kinds there are none, which costs nothing to ask.
#[derive(Debug, Default)]
pub struct Hinted {
    pub machines: HashSet<MachineId>,
    pub vms: HashSet<VmId>,
    pub services: HashSet<ServiceId>,
}

impl Hinted {
    fn of(plan: &Plan) -> Hinted {
        let mut hinted = Hinted::default();
        for (subject, item) in &plan.subjects {
            if item.waiting.iter().all(|it| it.hint.is_none()) {
                continue;
            }
            match subject {
                Subject::Machine(id) => hinted.machines.insert(*id),
                Subject::Vm(id) => hinted.vms.insert(*id),
                Subject::Service(id) => hinted.services.insert(*id),
            };
        }
        hinted
    }
}

impl Glance {
    pub fn of(fleet: &Fleet, plan: &Plan) -> Glance {
        let hinted = Hinted::of(plan);
        let scene = Scene { fleet, plan, observed: &Observed::default(), hinted: &hinted };
        let mut counts = Counts {
            machines: fleet.machines.len(),
            hosts: fleet.hosts.len(),
            vms: fleet.vms.len(),
            services: fleet.services.len(),
            ..Counts::default()
        };
        for subject in plan.subjects.keys() {
            match subject {
                Subject::Machine(id) => counts.machines_asking += asks(fleet.machines.get(id), scene),
                Subject::Vm(id) => counts.vms_asking += asks(fleet.vms.get(id), scene),
                Subject::Service(id) => counts.services_asking += asks(fleet.services.get(id), scene),
            }
        }
        Glance { counts, hinted }
    }
}

/// A moment of the core as somebody sees it, and what every page says of it.
pub struct Moment {
    pub seen: core::Seen,
    pub glance: Arc<Glance>,
}

impl Moment {
    /// By the eyes of a tenant, or of the site.
    pub fn of(app: &App, tenant: Option<&str>) -> Moment {
        let seen = app.core.seen_by(tenant);
        let glance = match tenant {
            None => app.glances.of(&seen.fleet, &seen.plan),
            Some(_) => Arc::new(Glance::of(&seen.fleet, &seen.plan)),
        };
        Moment { seen, glance }
    }

    pub fn scene(&self) -> Scene<'_> {
        let core::Seen { fleet, plan, observed } = &self.seen;
        Scene { fleet, plan, observed, hinted: &self.glance.hinted }
    }
}

/// The last one.
#[derive(Debug, Default)]
pub struct Glances(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    fleet: Arc<Fleet>,
    plan: Arc<Plan>,
    glance: Arc<Glance>,
}

impl Glances {
    pub fn of(&self, fleet: &Arc<Fleet>, plan: &Arc<Plan>) -> Arc<Glance> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.fleet, fleet)
            && Arc::ptr_eq(&known.plan, plan)
        {
            return Arc::clone(&known.glance);
        }
        let glance = Arc::new(Glance::of(fleet, plan));
        *known =
            Some(Known { fleet: Arc::clone(fleet), plan: Arc::clone(plan), glance: Arc::clone(&glance) });
        glance
    }
}

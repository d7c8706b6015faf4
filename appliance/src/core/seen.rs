//! What somebody sees of a moment: everything, or what his tenant has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleet::{Fleet, Observed, Plan, tenant};

use super::Core;

/// A moment of the core, which holds still while it is looked at.
#[derive(Debug, Clone)]
pub struct Seen {
    pub fleet: Arc<Fleet>,
    pub plan: Arc<Plan>,
    pub observed: Arc<Observed>,
}

/// The views of tenants, each with what it was made from.
#[derive(Debug, Default)]
pub(super) struct Views {
    known: Mutex<BTreeMap<String, View>>,
}

#[derive(Debug)]
struct View {
    of: (Arc<Fleet>, Arc<Plan>),
    fleet: Arc<Fleet>,
    plan: Arc<Plan>,
}

impl Core {
    /// What somebody of this tenant sees, or somebody of the site.
    pub fn seen_by(&self, tenant: Option<&str>) -> Seen {
        let all = Seen { fleet: self.fleet(), plan: self.plan(), observed: self.observed() };
        match tenant {
            Some(tenant) => self.inner.views.of(tenant, &all),
            None => all,
        }
    }
}

impl Views {
    /// It is made anew when the fleet or the plan are different, and stays the same where it comes to the same.
    fn of(&self, name: &str, all: &Seen) -> Seen {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let old = known.remove(name);
        let is_new = |view: &View| Arc::ptr_eq(&view.of.0, &all.fleet) && Arc::ptr_eq(&view.of.1, &all.plan);
        let view = match old {
            Some(old) if is_new(&old) => old,
            old => {
                let fleet = tenant::view(&all.fleet, name);
                let plan = tenant::plan(&fleet, &all.plan);
                let (fleet, plan) = match old {
                    Some(old) => (same(old.fleet, fleet), same(old.plan, plan)),
                    None => (Arc::new(fleet), Arc::new(plan)),
                };
                View { of: (Arc::clone(&all.fleet), Arc::clone(&all.plan)), fleet, plan }
            }
        };
        let (fleet, plan) = (Arc::clone(&view.fleet), Arc::clone(&view.plan));
        // A tenant that is no more has no view that is kept.
        known.retain(|name, _| all.fleet.tenants.contains_key(name));
        known.insert(name.to_owned(), view);
        drop(known);
        let observed = Arc::new(tenant::observed(&fleet, &all.fleet, &all.observed));
        Seen { fleet, plan, observed }
    }
}

fn same<T: PartialEq>(old: Arc<T>, new: T) -> Arc<T> {
    if *old == new { old } else { Arc::new(new) }
}

//! What can be asked of a noun: flat fields, each with its name, its kind and where it comes from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::common::types::{CelBool, CelInt, CelList, CelNull, CelString};
use cel::common::value::{CowVal, Val};
use fleet::wire::VmState;
use fleet::{Fleet, Observed, Plan, Subject, Timestamp, VmId};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::version::Version;

/// One moment of the site.
pub struct Scene {
    pub fleet: Arc<Fleet>,
    /// What nodes say is kept only of the present.
    pub now: Option<Now>,
    pub time: Timestamp,
    states: OnceLock<HashMap<VmId, VmState>>,
}

pub struct Now {
    pub observed: Arc<Observed>,
    pub plan: Arc<Plan>,
}

impl Scene {
    pub fn new(fleet: Arc<Fleet>, now: Option<Now>, time: Timestamp) -> Scene {
        Scene { fleet, now, time, states: OnceLock::new() }
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.now.as_ref().map(|now| &*now.observed)
    }

    /// What its host says of a VM.
    pub fn state(&self, vm: VmId) -> Option<&VmState> {
        let observed = self.observed()?;
        let states = self.states.get_or_init(|| {
            let said = observed.values().flat_map(|node| &node.said.vms);
            said.map(|vm| (vm.id, vm.state.clone())).collect()
        });
        states.get(&vm)
    }

    pub fn waits(&self, subject: Subject) -> Cell<'_> {
        let Some(now) = &self.now else { return Cell::Null };
        let about = now.plan.waiting_of(subject).iter();
        Cell::List(about.map(|waiting| Cow::Borrowed(&*waiting.what)).collect())
    }

    pub fn age(&self, since: Timestamp) -> Cell<'_> {
        Cell::count(self.time.secs_since(since))
    }
}

/// A value of a field. Absent values (`Null`) make a comparison neither true nor false: the object is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    Version(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
}

impl<'a> Cell<'a> {
    pub fn text(text: impl ToString) -> Cell<'static> {
        Cell::Text(Cow::Owned(text.to_string()))
    }

    pub fn str(text: &'a str) -> Cell<'a> {
        Cell::Text(Cow::Borrowed(text))
    }

    pub fn count(number: impl TryInto<i64>) -> Cell<'static> {
        Cell::Int(number.try_into().unwrap_or(i64::MAX))
    }

    pub fn of<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell<'a>) -> Cell<'a> {
        value.map_or(Cell::Null, cell)
    }

    pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Cell<'static> {
        Cell::List(items.into_iter().map(|item| Cow::Owned(item.to_string())).collect())
    }

    pub fn value<'b>(self) -> CowVal<'b, 'b>
    where
        'a: 'b,
    {
        fn text<'a>(text: Cow<'a, str>) -> CelString<'a> {
            match text {
                Cow::Borrowed(text) => CelString::from(text),
                Cow::Owned(text) => CelString::from(text),
            }
        }
        match self {
            Cell::Null => CowVal::owned(CelNull),
            Cell::Bool(value) => CowVal::owned(CelBool::from(value)),
            Cell::Int(number) => CowVal::owned(CelInt::from(number)),
            Cell::Text(words) => CowVal::owned(text(words)),
            Cell::Version(version) => CowVal::owned(Version(version.into_owned())),
            Cell::List(items) => {
                let items = items.into_iter().map(|item| Box::new(text(item)) as Box<dyn Val + 'b>);
                CowVal::owned(CelList::from(items.collect::<Vec<_>>()))
            }
        }
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Null => serializer.serialize_none(),
            Cell::Bool(value) => serializer.serialize_bool(*value),
            Cell::Int(number) => serializer.serialize_i64(*number),
            Cell::Text(text) | Cell::Version(text) => serializer.serialize_str(text),
            Cell::List(items) => serializer.collect_seq(items),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FieldKind")]
pub enum Kind {
    Text,
    Number,
    Bool,
    Version,
    List,
}

/// A field of the noun whose objects are `T`.
pub struct Field<T: 'static> {
    pub name: &'static str,
    pub kind: Kind,
    /// For people who ask what there is.
    pub about: &'static str,
    /// Shown in a table that was not told what to show.
    pub column: bool,
    pub get: for<'a> fn(&'a Scene, &'a T) -> Cell<'a>,
}

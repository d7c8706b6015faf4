//! What a host does next: pure, from what should be there and what is.

use std::collections::BTreeSet;

use crate::{Vm, fingerprint, seed_name};
use fleet::VmId;
use fleet::wire::{ImageSpec, VmSpec};

/// What is on this host now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    pub vms: Vec<Vm>,
    /// Names in the pool: volumes and seeds.
    pub volumes: BTreeSet<String>,
    /// SHA-256 of the images that are here whole.
    pub images: BTreeSet<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Remove(Vm),
    FetchImage(ImageSpec),
    MakeVolume(VmSpec),
    MakeSeed(VmSpec),
    /// Defines it, starts it, or changes its definition.
    Run(VmSpec),
}

impl Step {
    /// The machines that cannot go on when this fails.
    pub fn concerns(&self, desired: &[VmSpec]) -> Vec<VmId> {
        match self {
            Step::Remove(vm) => vec![vm.id],
            Step::FetchImage(image) => {
                desired.iter().filter(|vm| vm.volume.image.sha256 == image.sha256).map(|vm| vm.id).collect()
            }
            Step::MakeVolume(vm) | Step::MakeSeed(vm) | Step::Run(vm) => vec![vm.id],
        }
    }
}

/// Removals first: they make room, and free the names and addresses that others may get. Each image is fetched once.
pub fn plan_node(desired: &[VmSpec], here: &Here) -> Vec<Step> {
    let is_wanted = |vm: &Vm| desired.iter().any(|wanted| wanted.id == vm.id && wanted.uuid == vm.uuid);
    let mut steps: Vec<Step> =
        here.vms.iter().filter(|vm| !is_wanted(vm)).cloned().map(Step::Remove).collect();
    let mut fetched = BTreeSet::new();
    for vm in desired {
        let image = &vm.volume.image;
        if !here.volumes.contains(&vm.volume.name) {
            if !here.images.contains(&image.sha256) && fetched.insert(&image.sha256) {
                steps.push(Step::FetchImage(image.clone()));
            }
            steps.push(Step::MakeVolume(vm.clone()));
        }
        if !here.volumes.contains(&seed_name(vm)) {
            steps.push(Step::MakeSeed(vm.clone()));
        }
        let there = here.vms.iter().find(|there| there.id == vm.id && there.uuid == vm.uuid);
        if !there.is_some_and(|there| there.running && there.fingerprint == fingerprint(vm)) {
            steps.push(Step::Run(vm.clone()));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fleet::Mac;
    use fleet::wire::{Seed, VolumeSpec};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn spec(id: u64, name: &str) -> VmSpec {
        VmSpec {
            id: VmId(id),
            name: name.to_owned(),
            uuid: Uuid::from_u128(u128::from(id)),
            vcpus: 1,
            memory_mib: 384,
            volume: VolumeSpec {
                name: format!("{name}-v{id}"),
                bytes: 2 << 30,
                image: ImageSpec {
                    url: "http://10.77.0.1/guest.img".to_owned(),
                    sha256: "aa".to_owned(),
                    bytes: 10,
                },
            },
            mac: Mac([0x52, 0x54, 0, 0, 1, 1]),
            bridge: "lan0".to_owned(),
            address: Ipv4Addr::new(10, 77, 1, 10),
            seed: Seed { meta_data: String::new(), user_data: String::new(), network_config: String::new() },
        }
    }

    fn vm(spec: &VmSpec, running: bool) -> Vm {
        Vm {
            id: spec.id,
            uuid: spec.uuid,
            name: spec.name.clone(),
            running,
            volume: spec.volume.name.clone(),
            seed: seed_name(spec),
            fingerprint: fingerprint(spec),
        }
    }

    fn all_there(specs: &[VmSpec]) -> Here {
        Here {
            vms: specs.iter().map(|spec| vm(spec, true)).collect(),
            volumes: specs.iter().flat_map(|spec| [spec.volume.name.clone(), seed_name(spec)]).collect(),
            images: BTreeSet::from(["aa".to_owned()]),
        }
    }

    #[test]
    fn an_empty_host_makes_everything_and_fetches_the_image_once() {
        let (one, two) = (spec(1, "a"), spec(2, "b"));
        assert_eq!(
            plan_node(&[one.clone(), two.clone()], &Here::default()),
            [
                Step::FetchImage(one.volume.image.clone()),
                Step::MakeVolume(one.clone()),
                Step::MakeSeed(one.clone()),
                Step::Run(one.clone()),
                Step::MakeVolume(two.clone()),
                Step::MakeSeed(two.clone()),
                Step::Run(two),
            ]
        );
        let here = Here { images: BTreeSet::from(["aa".to_owned()]), ..Here::default() };
        assert_eq!(plan_node(std::slice::from_ref(&one), &here)[0], Step::MakeVolume(one));
    }

    #[test]
    fn nothing_is_done_when_all_is_as_it_should_be() {
        let specs = [spec(1, "a"), spec(2, "b")];
        assert_eq!(plan_node(&specs, &all_there(&specs)), []);
        // The image may have been tidied away: the volumes need it no longer.
        assert_eq!(plan_node(&specs, &Here { images: BTreeSet::new(), ..all_there(&specs) }), []);
        assert_eq!(plan_node(&[], &Here::default()), []);
    }

    #[test]
    fn what_is_not_wanted_goes_before_anything_comes() {
        let (old, new) = (spec(1, "web"), spec(2, "web"));
        let steps = plan_node(std::slice::from_ref(&new), &all_there(std::slice::from_ref(&old)));
        assert_eq!(steps[0], Step::Remove(vm(&old, true)));
        assert_eq!(steps.last(), Some(&Step::Run(new)));
    }

    #[test]
    fn a_vm_that_was_forgotten_while_its_host_was_away_is_removed_when_it_is_back() {
        let (kept, forgotten) = (spec(1, "a"), spec(2, "b"));
        // The host comes back with both running and its image; the appliance knows of one.
        let here = all_there(&[kept.clone(), forgotten.clone()]);
        assert_eq!(plan_node(&[kept], &here), [Step::Remove(vm(&forgotten, true))]);
        assert_eq!(
            plan_node(&[], &all_there(std::slice::from_ref(&forgotten))).len(),
            1,
            "and if it was its last"
        );
    }

    #[test]
    fn a_stopped_machine_is_started_and_a_changed_one_redefined() {
        let one = spec(1, "a");
        let mut here = all_there(std::slice::from_ref(&one));
        here.vms[0].running = false;
        assert_eq!(plan_node(std::slice::from_ref(&one), &here), [Step::Run(one.clone())]);
        let mut larger = one.clone();
        larger.memory_mib = 512;
        assert_eq!(plan_node(std::slice::from_ref(&larger), &all_there(&[one])), [Step::Run(larger)]);
    }

    #[test]
    fn the_same_number_in_another_life_is_another_machine() {
        // An appliance that was founded anew counts from v1 again.
        let old = spec(1, "a");
        let new = VmSpec { uuid: Uuid::from_u128(99), ..spec(1, "b") };
        let steps = plan_node(std::slice::from_ref(&new), &all_there(std::slice::from_ref(&old)));
        assert_eq!(steps[0], Step::Remove(vm(&old, true)));
    }

    #[test]
    fn a_failed_image_holds_up_all_that_need_it() {
        let (one, mut two) = (spec(1, "a"), spec(2, "b"));
        two.volume.image.sha256 = "bb".to_owned();
        let step = Step::FetchImage(one.volume.image.clone());
        assert_eq!(step.concerns(&[one.clone(), two, spec(3, "c")]), [VmId(1), VmId(3)]);
        assert_eq!(Step::Run(one.clone()).concerns(&[one]), [VmId(1)]);
    }

    proptest! {
        /// Carrying out a plan in full leaves nothing to do.
        #[test]
        fn a_plan_ends(wanted in proptest::collection::btree_set(0u64..6, 0..6), there in proptest::collection::btree_set(0u64..6, 0..6), stopped in 0u64..6) {
            let desired: Vec<VmSpec> = wanted.iter().map(|id| spec(*id, &format!("n{id}"))).collect();
            let present: Vec<VmSpec> = there.iter().map(|id| spec(*id, &format!("n{id}"))).collect();
            let mut here = all_there(&present);
            here.images.clear();
            for vm in &mut here.vms {
                vm.running = vm.id != VmId(stopped);
            }
            for step in plan_node(&desired, &here) {
                match step {
                    Step::Remove(vm) => {
                        here.volumes.remove(&vm.volume);
                        here.volumes.remove(&vm.seed);
                        here.vms.retain(|there| there.id != vm.id);
                    }
                    Step::FetchImage(image) => { here.images.insert(image.sha256); }
                    Step::MakeVolume(vm) => {
                        prop_assert!(here.images.contains(&vm.volume.image.sha256));
                        here.volumes.insert(vm.volume.name);
                    }
                    Step::MakeSeed(vm) => { here.volumes.insert(seed_name(&vm)); }
                    Step::Run(spec) => {
                        prop_assert!(here.volumes.contains(&spec.volume.name) && here.volumes.contains(&seed_name(&spec)));
                        here.vms.retain(|there| there.id != spec.id);
                        here.vms.push(vm(&spec, true));
                    }
                }
            }
            prop_assert_eq!(plan_node(&desired, &here), []);
        }
    }
}

//! Which VMs an open page shows, for as long as nothing has changed that this follows from: an event at a site of
//! 100,000 VMs is seldom about the VMs of this page.

use std::collections::HashSet;
use std::sync::Arc;

use fleet::vm::Vm;
use fleet::{Fleet, VmId};

use super::list::{Frame, Scene};
use super::look::Look;
use super::nouns;

#[derive(Debug, Default)]
pub struct Kept(Option<Known>);

#[derive(Debug)]
struct Known {
    look: Look,
    fleet: Arc<Fleet>,
    hinted: HashSet<VmId>,
    shown: Vec<VmId>,
    frame: Frame,
}

impl Kept {
    /// `fleet` is that of the scene.
    pub fn vms<'a>(&mut self, fleet: &Arc<Fleet>, scene: Scene<'a>, look: &Look) -> (Vec<&'a Vm>, Frame) {
        if let Some(known) = &mut self.0
            && known.look == *look
            && known.fleet.vms.ptr_eq(&fleet.vms)
            && known.hinted == scene.hinted.vms
            && follows_from_vms(look)
        {
            // So that an old fleet does not stay in memory.
            known.fleet = Arc::clone(fleet);
            let shown = known.shown.iter().filter_map(|id| scene.fleet.vms.get(id));
            return (shown.map(Arc::as_ref).collect(), known.frame.clone());
        }
        let (shown, frame) = nouns::vms(scene, look).page(scene, look, "/vms");
        self.0 = Some(Known {
            look: look.clone(),
            fleet: Arc::clone(fleet),
            hinted: scene.hinted.vms.clone(),
            shown: shown.iter().map(|vm| vm.id).collect(),
            frame: frame.clone(),
        });
        (shown, frame)
    }
}

/// Neither from the addresses that are given, nor from what hosts are called.
fn follows_from_vms(look: &Look) -> bool {
    !look.q.contains('.') && look.order().0 != "host"
}

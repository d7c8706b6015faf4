//! What machines and guests ask the appliance in the simulated world, and what it answers.

use fleet::wire::{Checked, Desired, Erased, Hardware, Observed, ReportReply};
use fleet::{Mac, NodeId, VmId};

/// Who asks: a computer or a guest on it, in one life of it. What is on its way to an earlier life is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    pub computer: usize,
    pub guest: Option<VmId>,
    pub life: u32,
}

/// A boot script's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Ipxe,
    Grub,
}

#[derive(Debug, Clone)]
pub enum Question {
    /// A datagram; it alone may arrive twice.
    Dhcp(Vec<u8>),
    Script {
        mac: Mac,
        loader: Loader,
    },
    Report {
        key: String,
        hardware: Box<Hardware>,
    },
    Kickstart {
        key: String,
        token: String,
    },
    Installed {
        key: String,
        token: String,
    },
    Failed {
        key: String,
        token: String,
        step: String,
        error: String,
    },
    Erased {
        key: String,
        erased: Erased,
    },
    Checked {
        key: String,
        checked: Checked,
    },
    Certificate {
        key: String,
        enrollment: Option<String>,
    },
    Desired {
        key: String,
        node: NodeId,
        known: Option<u64>,
    },
    Observed {
        key: String,
        node: NodeId,
        said: Box<Observed>,
    },
}

#[derive(Debug, Clone)]
pub enum Answer {
    Dhcp(Vec<u8>),
    Script(String),
    Instruction(ReportReply),
    Certificate(NodeId),
    Desired(Box<Desired>),
    /// It was taken, and there is nothing more to say.
    Done,
    /// Status 4xx, with its sentence.
    Refused(String),
}

/// What a computer or guest has set itself a time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The next stage of its start.
    Next,
    /// Nobody answered this DHCP transaction.
    NoLease(u32),
    /// Nobody answered this question.
    NoAnswer(u64),
    /// The initrd reports again, or says again how its installation went.
    Speak,
    /// A step of its installation is done.
    Installed,
    /// An agent joins, looks at what there is to do, has done a step, tells how things are.
    Join,
    Pull,
    Settle,
    StepDone(u64),
    Tell,
}

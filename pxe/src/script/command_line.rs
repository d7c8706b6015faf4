//! The kernel's command line.

use std::str::FromStr;

use super::{NoScript, ScriptFacts};
use crate::{Boot, MacAddr};

/// Words of a kernel's command line, which no boot loader takes for anything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine(Vec<String>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} cannot be part of a kernel's command line: {reason}")]
pub struct BadWord {
    pub word: String,
    pub reason: &'static str,
}

impl FromStr for CommandLine {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = |word: &str, reason| BadWord { word: word.chars().take(80).collect(), reason };
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(bad(&control.to_string(), "it is a control character"));
        }
        // x86 takes 2048 bytes, and ours come on top.
        if text.len() > 1500 {
            return Err(bad(text, "it is longer than 1500 bytes"));
        }
        for word in text.split(' ') {
            if !word.is_ascii() {
                return Err(bad(word, "boot loaders take ASCII only"));
            }
            if word.contains(['\'', '"', '\\', '`']) {
                return Err(bad(word, "boot loaders read quotes and backslashes in different ways"));
            }
            // iPXE expands settings wherever they stand, and knows no way to quote them.
            if word.contains("${") {
                return Err(bad(word, "iPXE would put a setting in its place"));
            }
            if word.starts_with('#') {
                return Err(bad(word, "iPXE would take the rest of the line for a comment"));
            }
            if ["&&", "||", ";"].contains(&word) {
                return Err(bad(word, "it would begin another command"));
            }
        }
        Ok(Self(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }
}

impl CommandLine {
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// What our own kernel and initrd are told to do, without the consoles, which depend on the architecture.
/// `boot` is one of those that start them.
pub(super) fn ours(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let ScriptFacts { address, ca, image, .. } = facts;
    let (mode, in_memory) = match boot {
        Boot::Live => ("live", true),
        Boot::Rescue => ("rescue", true),
        Boot::Discover | Boot::Disk | Boot::MemoryTest | Boot::System(_) => ("discover", false),
    };
    let mut words =
        format!("boot=elisandra elisandra.mode={mode} elisandra.appliance={address} elisandra.ca={ca}");
    if in_memory {
        let image = image.as_ref().ok_or(NoScript::Image)?;
        words +=
            &format!(" elisandra.image=http://{address}/boot/files/live.squashfs elisandra.sha256={image}");
    }
    // panic=30: a kernel that gives up restarts the machine, which asks the appliance again; nobody stands beside it.
    words += &format!(" BOOTIF=01-{} panic=30", mac.dashed());
    Ok(words)
}

/// Where PCs have a screen and a serial port; others say by themselves (ACPI SPCR, device tree).
pub(super) const PC_CONSOLES: &str = "console=tty0 console=ttyS0,115200";

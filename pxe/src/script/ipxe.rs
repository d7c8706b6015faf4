//! iPXE's language: a line is a command, words are apart by white space, and there are no quotes. `${NAME}` is
//! expanded anywhere, a word that begins with `#` ends the line, `&&` and `||` as words divide commands.

use super::{NoScript, ScriptFacts, command_line, path, shown, title};
use crate::{Boot, MacAddr, Start};

/// The script that iPXE runs.
pub fn ipxe(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let body = match boot {
        Boot::Disk => return Ok(DISK.to_owned()),
        Boot::Discover | Boot::Live | Boot::Rescue => ours(facts, mac, boot)?,
        Boot::MemoryTest => memory_test(facts),
        Boot::System(system) => match &system.start {
            Start::Linux { kernel, initrds, command_line } => {
                let mut kernel = format!("kernel --name kernel {}", url(facts, kernel)?);
                let mut rest = String::new();
                for (number, initrd) in initrds.iter().enumerate() {
                    // A kernel that EFI starts fetches its initial RAM disks by these names.
                    kernel += &format!(" initrd=initrd{number}");
                    rest += &format!("initrd --name initrd{number} {} || goto again\n", url(facts, initrd)?);
                }
                for word in command_line.words() {
                    kernel += &format!(" {word}");
                }
                format!("{kernel} || goto again\n{rest}boot || goto again\n")
            }
            Start::Efi { program } => format!(
                "iseq ${{platform}} efi || echo Elisandra: this starts by UEFI only; this machine started by BIOS\n\
                 iseq ${{platform}} efi || goto again\n\
                 chain --autofree {} || goto again\n",
                url(facts, program)?
            ),
            Start::Text { ipxe: Some(text), .. } => {
                let text = text.strip_prefix("#!ipxe").unwrap_or(text);
                return Ok(format!("#!ipxe\n{}\n", text.trim_start_matches(['\r', '\n'])));
            }
            Start::Text { ipxe: None, .. } => return Err(NoScript::Loader("iPXE")),
        },
    };
    let title = title(boot);
    let again = again(facts, mac, 10);
    Ok(format!("#!ipxe\necho Elisandra: starting {title}\nimgfree\n{body}:again\n{again}"))
}

/// What a machine shows that there is no script for; it asks again, as another answer may be there by then.
pub fn ipxe_trouble(facts: &ScriptFacts, mac: MacAddr, reason: &NoScript) -> String {
    let reason = shown(&reason.to_string());
    format!("#!ipxe\n:again\necho Elisandra: {reason}\n{}", again(facts, mac, 30))
}

fn again(facts: &ScriptFacts, mac: MacAddr, secs: u32) -> String {
    format!(
        "echo Elisandra: that failed; trying again in {secs} seconds\n\
         sleep {secs}\n\
         chain --replace --autofree http://{}/boot/{}/script.ipxe || goto again\n",
        facts.host,
        mac.dashed()
    )
}

/// BIOS numbers the disks from 0x80; a disk without a boot sector fails at once. EFI knows no such numbers: there
/// the firmware goes on with its boot order, because iPXE ends with an error.
const DISK: &str = "#!ipxe
echo Elisandra: starting from this machine's own disk
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 ||
sanboot --no-describe --drive 0x81 ||
sanboot --no-describe --drive 0x82 ||
sanboot --no-describe --drive 0x83 ||
echo Elisandra: no disk of this machine can be started; looking again in 30 seconds
sleep 30
reboot
";

fn ours(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let words = command_line::ours(facts, mac, boot)?;
    let host = facts.host;
    let consoles = command_line::PC_CONSOLES;
    // `i386` is what undionly.kpxe says of itself on every PC.
    Ok(format!(
        "set files http://{host}/boot/files\n\
         set consoles {consoles}\n\
         iseq ${{buildarch}} x86_64 || iseq ${{buildarch}} i386 || set files ${{files}}/${{buildarch}}\n\
         iseq ${{buildarch}} x86_64 || iseq ${{buildarch}} i386 || clear consoles\n\
         kernel --name vmlinuz ${{files}}/vmlinuz initrd=initrd {words} ${{consoles}} || goto nothing\n\
         initrd --name initrd ${{files}}/initrd || goto nothing\n\
         boot || goto again\n\
         :nothing\n\
         echo Elisandra: no system for ${{buildarch}} machines could be fetched\n"
    ))
}

fn memory_test(facts: &ScriptFacts) -> String {
    let files = format!("http://{}/boot/files", facts.host);
    format!(
        "iseq ${{platform}} efi && goto efi ||\n\
         kernel {files}/memtest.bin console=ttyS0,115200 || goto again\n\
         boot || goto again\n\
         :efi\n\
         iseq ${{buildarch}} x86_64 || echo Elisandra: there is no memory test for ${{buildarch}} machines\n\
         iseq ${{buildarch}} x86_64 || goto again\n\
         kernel {files}/memtest.efi console=ttyS0,115200 || goto again\n\
         boot || goto again\n"
    )
}

fn url(facts: &ScriptFacts, file: &str) -> Result<String, NoScript> {
    Ok(format!("http://{}/boot/files/{}", facts.host, path(file)?))
}

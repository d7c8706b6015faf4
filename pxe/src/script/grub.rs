//! GRUB's language, a small shell: what stands between single quotes is taken as it is.

use std::net::IpAddr;

use super::{Host, NoScript, ScriptFacts, command_line, path, shown, title};
use crate::{Boot, MacAddr, Start};

/// iPXE over the firmware's own driver.
const SNPONLY: &str = "snponly.efi";

/// The configuration that GRUB reads after [`grub_start`].
pub fn grub(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let body = match boot {
        Boot::Disk => return Ok(DISK.to_owned()),
        Boot::Discover | Boot::Live | Boot::Rescue => ours(facts, mac, boot)?,
        Boot::MemoryTest => format!(
            "{}if [ \"$grub_cpu\" = x86_64 ]; then\n\
             \x20 if chainloader $loaders/memtest.efi console=ttyS0,115200; then boot; fi\n\
             \x20 {SECURE_BOOT}\
             else\n\
             \x20 echo \"Elisandra: there is no memory test for $grub_cpu machines\"\n\
             fi\n",
            loaders(facts.host)
        ),
        Boot::System(system) => match &system.start {
            Start::Linux { kernel, initrds, command_line } => {
                let mut linux = format!("linux {}", file(facts, kernel)?);
                for word in command_line.words() {
                    linux += &format!(" '{word}'");
                }
                let mut initrd = String::new();
                for path in initrds {
                    initrd += &format!(" {}", file(facts, path)?);
                }
                if initrd.is_empty() {
                    format!("if {linux}; then boot; fi\n")
                } else {
                    format!("if {linux}; then\n  if initrd{initrd}; then boot; fi\nfi\n")
                }
            }
            Start::Efi { program } => {
                format!("if chainloader {}; then boot; fi\n{SECURE_BOOT}", file(facts, program)?)
            }
            Start::Text { grub: Some(text), .. } => return Ok(format!("{text}\n")),
            Start::Text { grub: None, ipxe: Some(_) } => to_ipxe(facts.host),
            Start::Text { grub: None, ipxe: None } => return Err(NoScript::Loader("GRUB")),
        },
    };
    let title = title(boot);
    let server = server(facts.host);
    let by_ipxe = if facts.by_ipxe { by_ipxe(facts.host) } else { String::new() };
    Ok(format!("echo 'Elisandra: starting {title}'\n{server}{by_ipxe}{body}{}", again("that failed", 10)))
}

/// What a machine shows that there is no script for; it asks again, as another answer may be there by then.
pub fn grub_trouble(reason: &NoScript) -> String {
    again(&shown(&reason.to_string()), 30)
}

/// What GRUB finds wherever it looks for its configuration: the way to the machine's own.
pub fn grub_start(host: impl Into<Host>) -> String {
    let host = host.into();
    // $net_default_mac is `aa:bb:cc:dd:ee:ff`. What comes after it only runs when it failed; without
    // that, GRUB would wait at its prompt for ever.
    format!(
        "{}configfile {}/boot/$net_default_mac/grub.cfg\n{}",
        server(host),
        device(host),
        again(&format!("no boot script from {host}"), 10)
    )
}

fn again(what: &str, secs: u32) -> String {
    format!("echo 'Elisandra: {what}; starting again in {secs} seconds'\nsleep {secs}\nreboot\n")
}

/// The GRUB that runs is the one that the disk would start, checked by the same shim: it reads the disk's
/// configuration itself. Only other systems' disks are started through their own boot loader. Never `exit`: Debian's
/// GRUB then tells the firmware that all went well, and EDK2 shows its menu and waits for a person.
const DISK: &str = r#"echo "Elisandra: starting from this machine's own disk"
if search --no-floppy --set=root --label ELI-IMAGE; then
  set prefix=($root)/grub
  configfile ($root)/grub/grub.cfg
fi
if [ "$grub_cpu" = arm64 ]; then set suffix=aa64.efi; set default=BOOTAA64.EFI
else set suffix=x64.efi; set default=BOOTX64.EFI; fi
if search --no-floppy --set=root --label ELI-ESP; then
  if chainloader ($root)/EFI/BOOT/$default; then boot; fi
fi
for loader in /EFI/BOOT/$default /EFI/Microsoft/Boot/bootmgfw.efi /EFI/debian/shim$suffix /EFI/ubuntu/shim$suffix /EFI/fedora/shim$suffix /EFI/redhat/shim$suffix /EFI/centos/shim$suffix /EFI/rocky/shim$suffix /EFI/almalinux/shim$suffix /EFI/opensuse/shim.efi /EFI/sles/shim.efi; do
  if search --no-floppy --set=root --file $loader; then
    if chainloader ($root)$loader; then boot; fi
  fi
done
echo "Elisandra: no disk of this machine can be started; looking again in 30 seconds"
sleep 30
reboot
"#;

fn ours(facts: &ScriptFacts, mac: MacAddr, boot: &Boot) -> Result<String, NoScript> {
    let words = command_line::ours(facts, mac, boot)?;
    let consoles = command_line::PC_CONSOLES;
    let files = format!("{}/boot/files", device(facts.host));
    Ok(format!(
        "if [ \"$grub_cpu\" = x86_64 ]; then\n\
         \x20 if linux {files}/vmlinuz {words} {consoles}; then\n\
         \x20   if initrd {files}/initrd; then boot; fi\n\
         \x20 fi\n\
         else\n\
         \x20 if linux {files}/$grub_cpu/vmlinuz {words}; then\n\
         \x20   if initrd {files}/$grub_cpu/initrd; then boot; fi\n\
         \x20 fi\n\
         fi\n\
         echo \"Elisandra: no system for $grub_cpu machines could be fetched\"\n"
    ))
}

/// A script in iPXE's language only: GRUB starts iPXE over the firmware's own driver, and that asks for its script.
fn to_ipxe(host: Host) -> String {
    format!(
        "{}if [ \"$grub_cpu\" = arm64 ]; then set ipxe=ipxe-arm64.efi; else set ipxe={SNPONLY}; fi\n\
         if chainloader $loaders/$ipxe; then boot; fi\n\
         {SECURE_BOOT}",
        loaders(host)
    )
}

/// iPXE fetches a kernel sooner. It is not signed, so it is not even tried under Secure Boot (`lockdown`). What follows is
/// for that, and for an iPXE that gives up.
fn by_ipxe(host: Host) -> String {
    format!(
        "{}if [ \"$grub_cpu\" = x86_64 -a \"$lockdown\" != y ]; then\n\
         \x20 if chainloader $loaders/{SNPONLY}; then boot; fi\n\
         fi\n",
        loaders(host)
    )
}

/// Where GRUB gets another loader from: the way that it came itself, by TFTP if it can. GRUB's HTTP waits 0.4 s at the end
/// of a file, by a clock that GRUB sets in one millisecond at its start; where the processor was away in that millisecond,
/// the clock is up to some hundred times too slow. TFTP ends with its last block.
fn loaders(host: Host) -> String {
    let http = format!("set loaders=\"{}/boot/files\"\n", device(host));
    match host.0 {
        IpAddr::V4(address) => {
            format!("{http}if regexp '^tftp' \"$root\"; then set loaders='(tftp,{address})'; fi\n")
        }
        IpAddr::V6(_) => http,
    }
}

const SECURE_BOOT: &str = "echo 'Elisandra: with Secure Boot on, only programs that are signed for it start; this one may not be'\n";

fn file(facts: &ScriptFacts, name: &str) -> Result<String, NoScript> {
    let path = path(name)?;
    let device = device(facts.host);
    // A path has letters that quotes of both kinds leave alone.
    Ok(match facts.host.0 {
        IpAddr::V4(_) => format!("'{device}/boot/files/{path}'"),
        IpAddr::V6(_) => format!("\"{device}/boot/files/{path}\""),
    })
}

/// The HTTP server as GRUB's language names it, after [`server`].
fn device(host: Host) -> String {
    match host.0 {
        IpAddr::V4(address) => format!("(http,{address})"),
        IpAddr::V6(_) => "($server)".to_owned(),
    }
}

/// GRUB's own network wants brackets around an IPv6 address. Debian's GRUB uses the firmware's when that loaded it over
/// HTTP, and fails with them ("Fail to send a request!"); its root is the server then, as it likes to have it.
fn server(host: Host) -> String {
    match host.0 {
        IpAddr::V4(_) => String::new(),
        IpAddr::V6(_) => {
            format!("set server='http,{host}'\nif regexp '^http' \"$root\"; then set server=\"$root\"; fi\n")
        }
    }
}

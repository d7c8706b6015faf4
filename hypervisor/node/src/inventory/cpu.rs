//! Processors and memory, from /proc.

use std::collections::BTreeSet;

use fleet::wire::Cpu;

/// Reads /proc/cpuinfo. The kernel takes `vmx` and `svm` off the flags when the firmware has switched them off.
pub fn read(cpuinfo: &str) -> Cpu {
    let values = |key: &'static str| {
        cpuinfo.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim())
        })
    };
    let threads = values("processor").count();
    // Virtual machines may leave the line out: then it is one socket.
    let sockets = values("physical id").collect::<BTreeSet<_>>().len().max(1);
    let virtualization =
        values("flags").any(|flags| flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    Cpu {
        model: values("model name")
            .next()
            .unwrap_or("unknown")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        sockets: u32::try_from(sockets).unwrap_or(1),
        threads: u32::try_from(threads).unwrap_or(1).max(1),
        virtualization,
    }
}

/// Memory that Linux can use, in MiB, from /proc/meminfo: some tens of MiB less than what is plugged in.
pub fn memory_mib(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_SOCKETS: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU           E5-2620 v4 @ 2.10GHz
physical id\t: 0
siblings\t: 2
core id\t\t: 0
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep vmx smx est
vmx flags\t: vnmi preemption_timer

processor\t: 1
model name\t: Intel(R) Xeon(R) CPU           E5-2620 v4 @ 2.10GHz
physical id\t: 1
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep vmx smx est
";

    #[test]
    fn sockets_threads_and_virtualization_are_counted() {
        assert_eq!(
            read(TWO_SOCKETS),
            Cpu {
                model: "Intel(R) Xeon(R) CPU E5-2620 v4 @ 2.10GHz".to_owned(),
                sockets: 2,
                threads: 2,
                virtualization: true
            }
        );
    }

    #[test]
    fn a_flag_that_only_sounds_like_it_is_none() {
        let cpu =
            read("processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu svm_lock vmx_x\n");
        assert!(!cpu.virtualization);
        assert_eq!((cpu.sockets, cpu.threads), (1, 1));
        assert!(read("processor\t: 0\nflags\t\t: fpu svm npt\n").virtualization);
    }

    #[test]
    fn nothing_is_still_a_computer() {
        assert_eq!(
            read(""),
            Cpu { model: "unknown".to_owned(), sockets: 1, threads: 1, virtualization: false }
        );
        assert_eq!(memory_mib(""), 0);
        assert_eq!(memory_mib("MemTotal:        2030436 kB\nMemFree:          100 kB\n"), 1982);
    }
}

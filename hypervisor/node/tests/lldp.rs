//! Hears a real LLDP agent at the other end of a cable: lldpd, in a network namespace of its own.

#[path = "../../../pxe/tests/it/namespace.rs"]
mod namespace;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node::lldp::{Neighbours, listen};

struct Lldpd(Child);

impl Drop for Lldpd {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn lldpd_is_heard() {
    namespace::inside("lldpd_is_heard", async || {
        namespace::cable("52:54:00:00:00:07");
        let machine = namespace::Machine::take_eth0();
        machine.run("ip link show eth0");
        let mac: fleet::Mac = namespace::mac("lan0").parse().unwrap();

        let neighbours = Neighbours::default();
        let nics = move || vec![("lan0".to_owned(), mac), ("not-there".to_owned(), mac)];
        let listening = tokio::spawn(listen(neighbours.clone(), nics, || {}));

        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("lldpd.socket");
        // -d: stays in the foreground.
        let lldpd = Command::new("nsenter")
            .args(["-t", &machine.id().to_string(), "-n", "lldpd", "-d", "-I", "eth0", "-u"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("lldpd is installed by tests/needs");
        let _lldpd = Lldpd(lldpd);

        let begun = Instant::now();
        let heard = loop {
            if let [heard] = neighbours.now().as_slice() {
                break heard.clone();
            }
            assert!(!listening.is_finished(), "the listener ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "lldpd was not heard");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!((heard.mac, heard.port.as_str()), (mac, "eth0"));
        assert!(heard.chassis.parse::<fleet::Mac>().is_ok(), "{}", heard.chassis);
        assert!(heard.system.is_some());
    });
}

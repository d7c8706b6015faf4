//! How long a question takes in a fleet of N VMs: `cargo run --release -p appliance --example query -- 100000`.

use std::sync::Arc;
use std::time::Instant;

use appliance::query::field::{Now, Scene};
use appliance::query::{Noun, Question};
use fleet::Timestamp;

const STACK: usize = 64 << 20;

fn main() -> anyhow::Result<()> {
    let vms = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let fleet = Arc::new(sample::fleet(vms));
    let now = Timestamp(1 << 40);
    let observed = Arc::new(sample::observed(&fleet, now));
    let plan = Arc::new(fleet::plan(&fleet, &observed, now));
    let scene = Arc::new(Scene::new(fleet, Some(Now { observed, plan }), now));
    for (noun, filter, fields) in [
        (Noun::Vms, Some("memory_mib > 100000"), "name"),
        (Noun::Vms, Some("memory_mib >= 512 && name.startsWith('vm-1') && phase == 'running'"), "name"),
        (Noun::Vms, Some("observed.state != 'running'"), "name"),
        (Noun::Vms, Some("waiting.size() > 0"), "name"),
        (Noun::Hosts, Some("version < '1.2'"), "name"),
        (Noun::Vms, None, "name"),
        (Noun::Vms, None, ""),
    ] {
        let scene = Arc::clone(&scene);
        let filter = filter.map(str::to_owned);
        let fields = fields.split_terminator(',').map(str::to_owned).collect();
        let asked = filter.clone().unwrap_or_else(|| "everything".to_owned());
        let question = Question { noun, filter, fields };
        let start = Instant::now();
        let thread = std::thread::Builder::new().stack_size(STACK);
        let answer = thread.spawn(move || question.answer(&scene, std::iter::empty()))?;
        let json = answer.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        println!("{:>8.1?}  {:>9} bytes  {} {asked}", start.elapsed(), json.len(), noun.word());
    }
    Ok(())
}

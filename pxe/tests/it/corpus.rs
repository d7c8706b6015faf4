//! Replays what the fuzzers found worth keeping (fuzz/corpus), and asks all of it again a little changed.
//!
//! `FUZZ_SECONDS=600 cargo test -p pxe --test corpus` goes on with random changes for as long, where there is no
//! cargo-fuzz; without it a second is enough.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    path::Path,
    time::{Duration, Instant},
};

#[path = "../../fuzz/src/dhcp4.rs"]
mod dhcp4;
#[path = "../../fuzz/src/dhcp6.rs"]
mod dhcp6;
#[path = "../../fuzz/src/http.rs"]
mod http;
#[path = "../../fuzz/src/tftp.rs"]
mod tftp;

/// What a folder's bytes are given to.
type Target = fn(&[u8]);

/// Every folder of the corpus with its target.
const TARGETS: &[(&str, Target)] = &[
    ("dhcp4", dhcp4::packet),
    ("dhcp4_answer", dhcp4::answer),
    ("dhcp6", dhcp6::packet),
    ("http", http::request),
    ("tftp", tftp::packets),
];

#[test]
fn the_corpus_is_replayed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut folders: Vec<String> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(folders, known, "a folder of the corpus for each target");
    for (name, target) in TARGETS {
        let mut seen = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            target(&bytes);
            for changed in changed(&bytes) {
                target(&changed);
            }
            seen += 1;
        }
        assert!(seen > 0, "{name} has no corpus");
    }
}

#[test]
fn random_changes_of_the_corpus() {
    let seconds = env::var("FUZZ_SECONDS").ok().and_then(|word| word.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(1));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    // Long runs differ, short ones do not.
    let mut state =
        if seconds.is_some() { RandomState::new().hash_one(0) | 1 } else { 0x9e37_79b9_7f4a_7c15 };
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        let (begun, mut runs) = (Instant::now(), 0_u64);
        let share = time / u32::try_from(TARGETS.len()).unwrap();
        while begun.elapsed() < share {
            let bytes = mutated(&seeds, &mut |below| {
                // xorshift64 (Marsaglia).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
            });
            target(&bytes);
            runs += 1;
        }
        println!("{name}: {runs} runs");
        assert!(runs > 0);
    }
}

/// One of the seeds, with up to eight changes: bytes set, parts of others put in, parts taken out, options added.
fn mutated(seeds: &[Vec<u8>], below: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..=below(8) {
        let place = below(bytes.len());
        match below(6) {
            0 if !bytes.is_empty() => bytes[place] = below(256) as u8,
            1 if !bytes.is_empty() => bytes[place] = [0, 1, 2, 4, 127, 128, 254, 255][below(8)],
            2 => bytes.truncate(place),
            3 => {
                let end = (place + below(40)).min(bytes.len());
                bytes.drain(place..end);
            }
            4 => {
                let other = &seeds[below(seeds.len())];
                let first = below(other.len());
                let end = (first + below(80)).min(other.len());
                bytes.splice(place..place, other[first..end].iter().copied());
            }
            _ => {
                let length = below(255);
                let place = place.max(bytes.len().min(240));
                let option: Vec<u8> = [below(256) as u8, length as u8]
                    .into_iter()
                    .chain((0..length).map(|_| below(256) as u8))
                    .collect();
                bytes.splice(place..place, option);
            }
        }
    }
    bytes
}

/// Every byte of the last 400 at its ends, and the whole cut at each place.
fn changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let first = bytes.len().saturating_sub(400);
    (first..bytes.len()).flat_map(move |place| {
        let with = |value: u8| {
            let mut bytes = bytes.to_vec();
            bytes[place] = value;
            bytes
        };
        [with(0), with(1), with(255), bytes[..place].to_vec()]
    })
}

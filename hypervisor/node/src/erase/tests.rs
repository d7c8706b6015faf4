use std::cell::RefCell;
use std::os::unix::fs::FileExt as _;

use anyhow::bail;
use rand::SeedableRng as _;
use tempfile::NamedTempFile;

use super::nvme::Abilities;
use super::*;

const BYTES: u64 = 8 << 20;

/// What the tools do to a file that stands for a disk.
#[derive(Default)]
struct Fake {
    nvme: bool,
    /// A discard is taken and the disk keeps what it has.
    keeps: bool,
    secure: bool,
    discards: bool,
    done: RefCell<Vec<&'static str>>,
}

impl Fake {
    fn wipe(&self, path: &Path, what: &'static str) {
        self.done.borrow_mut().push(what);
        if !self.keeps {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(0).unwrap();
            file.set_len(BYTES).unwrap();
            file.sync_all().unwrap();
        }
    }
}

impl Tools for Fake {
    fn nvme(&self, _: &Path) -> anyhow::Result<Abilities> {
        if !self.nvme {
            bail!("it is not NVMe");
        }
        Abilities::read(r#"{"oacs":2,"fna":0}"#, 1)
    }

    fn format(&self, path: &Path, setting: u8) -> anyhow::Result<()> {
        assert_eq!(setting, 1);
        self.wipe(path, "format");
        Ok(())
    }

    fn discard(&self, path: &Path, secure: bool) -> anyhow::Result<()> {
        if !(if secure { self.secure } else { self.discards }) {
            bail!("Operation not supported");
        }
        self.wipe(path, if secure { "secure discard" } else { "discard" });
        Ok(())
    }

    fn forget_partitions(&self, _: &Path) {
        self.done.borrow_mut().push("partitions");
    }
}

#[derive(Default)]
struct Heard(Vec<(String, Option<u8>)>);

impl Progress for Heard {
    fn step(&mut self, step: &str, percent: Option<u8>) {
        self.0.push((step.to_owned(), percent));
    }
}

/// A file full of something.
fn full() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    for number in 0..BYTES >> 20 {
        let chunk = vec![u8::try_from(number).unwrap() + 1; 1 << 20];
        file.as_file().write_all_at(&chunk, number << 20).unwrap();
    }
    file.as_file().sync_all().unwrap();
    file
}

fn chance(seed: u64) -> rand::rngs::StdRng {
    rand::rngs::StdRng::seed_from_u64(seed)
}

fn run(
    file: &NamedTempFile,
    method: Method,
    rotational: bool,
    tools: &Fake,
) -> (anyhow::Result<Proof>, String) {
    let target = Target { path: file.path().to_owned(), bytes: BYTES, rotational };
    let mut heard = Heard::default();
    let mut last = Last { step: String::new(), progress: &mut heard };
    let result = target.erase(method, tools, &mut last);
    let step = last.step;
    assert!(!heard.0.is_empty());
    (result, step)
}

fn is_empty(file: &NamedTempFile) -> bool {
    std::fs::read(file.path()).unwrap() == vec![0; usize::try_from(BYTES).unwrap()]
}

#[test]
fn each_method_does_what_the_disk_can_and_writes_over_it_where_it_cannot() {
    let fake = Fake::default;
    let none = fake();
    let cases: [(Method, bool, Fake, &[Means]); 8] = [
        (Method::Auto, true, fake(), &[Means::Overwrite]),
        (Method::Auto, false, fake(), &[Means::Overwrite]),
        (Method::Auto, false, Fake { discards: true, ..none }, &[Means::Overwrite, Means::Discard]),
        (Method::Auto, false, Fake { secure: true, ..fake() }, &[Means::SecureDiscard]),
        (Method::Auto, false, Fake { nvme: true, ..fake() }, &[Means::NvmeUserData]),
        (Method::Discard, true, Fake { discards: true, ..fake() }, &[Means::Discard]),
        // Taken, and nothing came of it.
        (Method::Discard, false, Fake { discards: true, keeps: true, ..fake() }, &[Means::Overwrite]),
        (Method::Overwrite, false, Fake { nvme: true, discards: true, ..fake() }, &[Means::Overwrite]),
    ];
    for (method, rotational, tools, means) in cases {
        let file = full();
        let (result, _) = run(&file, method, rotational, &tools);
        let proof = result.unwrap();
        assert_eq!(proof.means, means, "{method:?}");
        assert!(is_empty(&file) && proof.zero, "{method:?}");
        assert!(proof.places == 8 && proof.bytes_read == BYTES, "{proof:?}");
        assert_eq!(tools.done.borrow().last(), Some(&"partitions"));
    }
}

#[test]
fn a_disk_that_says_that_it_is_new_and_is_not_is_found_out() {
    let file = full();
    let (result, step) =
        run(&file, Method::Format, false, &Fake { nvme: true, keeps: true, ..Fake::default() });
    let error = result.unwrap_err().to_string();
    assert_eq!(error, "at byte 0 there is still what was there before");
    assert_eq!(step, "reading whether it is gone");
    assert!(!is_empty(&file));

    let (result, _) = run(&file, Method::Format, false, &Fake::default());
    assert_eq!(result.unwrap_err().to_string(), "it is not NVMe");
    assert!(!is_empty(&file), "nothing else was tried");
}

#[test]
fn a_disk_that_ends_in_the_middle_says_how_far_it_came() {
    // As one that was pulled out: reading and writing fail.
    let target = Target { path: "/dev/full".into(), bytes: BYTES, rotational: true };
    let mut heard = Heard::default();
    let mut last = Last { step: String::new(), progress: &mut heard };
    let disk = open(&target.path).unwrap();
    let error = format!("{:#}", target.overwrite(&disk, &mut last).unwrap_err());
    assert!(error.starts_with("after 0.0 of 0.0 GB: "), "{error}");
    assert_eq!(last.step, "writing zeroes over every block");

    let short = NamedTempFile::new().unwrap();
    short.as_file().set_len(1 << 20).unwrap();
    let (result, step) = run(&short, Method::Overwrite, true, &Fake::default());
    assert!(format!("{:#}", result.unwrap_err()).starts_with("reading at byte "));
    assert_eq!(step, "reading what is there in places");
}

#[test]
fn places_are_all_over_the_disk() {
    let places = Places::chosen(4 << 40, &mut chance(1));
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(4 << 40).unwrap();
    // A hole of 4 TB has nothing in it, and a word at its very end is found.
    let before = places.clone().read(file.as_file()).unwrap();
    assert_eq!((before.count(), before.is_zero()), (66, true));
    file.as_file().write_all_at(b"photos", (4 << 40) - 6).unwrap();
    let after = before.again(file.as_file()).unwrap();
    assert_eq!(after.first_not_zero(), Some((4 << 40) - (1 << 20)));
    assert_eq!(after.same_as(&before), None);
    assert_eq!(after.same_as(&after), Some((4 << 40) - (1 << 20)));
    // A disk that is smaller than a place.
    assert_eq!(Places::chosen(4096, &mut chance(1)), Places::chosen(4096, &mut chance(2)));
}

#[test]
fn another_disk_than_was_meant_is_not_opened() {
    let disk = fleet::wire::KnownDisk {
        path: "/dev/null".into(),
        by_id: Some("/dev/disk/by-id/virtio-none".into()),
        serial: Some("none".into()),
        model: None,
        bytes: 1,
    };
    let job = EraseDisk { number: 0, attempt: 1, disk, method: Method::Auto };
    let failed = erase(&job, &mut Heard::default()).unwrap_err();
    assert_eq!(failed.step, "looking for it");
    assert!(failed.error.to_string().ends_with("is not in the machine any more"));
}

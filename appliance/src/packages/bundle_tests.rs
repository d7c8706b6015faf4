//! Bundles as they should be, and every way in which one can be wrong.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::super::manifest::tests::HELLO;
use super::*;

const DEB_FILE: &str = "debs/hello-web_1.0.0_all.deb";

/// The example bundle, as bytes.
pub fn hello() -> Vec<u8> {
    pack(&parts())
}

/// Names of the files in a folder, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

type Part = (String, Vec<u8>);

fn deb() -> Vec<u8> {
    let mut deb = b"!<arch>\ndebian-binary   ".to_vec();
    deb.extend(std::iter::repeat_n(0x5a, 3000));
    deb
}

fn parts() -> Vec<Part> {
    let manifest = HELLO.replace("DEB_SHA256", &hex::encode(Sha256::digest(deb())));
    vec![
        (MANIFEST.to_owned(), manifest.into_bytes()),
        (DEB_FILE.to_owned(), deb()),
        ("templates/site.conf".to_owned(), b"listen {{ service.port }}\nfrom {{ network.cidr }}\n".to_vec()),
    ]
}

fn pack(parts: &[Part]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in parts {
        add(&mut builder, path, content, EntryType::Regular);
    }
    builder.into_inner().unwrap()
}

/// Writes the name as it is: `tar` itself refuses to write `..`.
fn add(builder: &mut Builder<Vec<u8>>, path: &str, content: &[u8], kind: EntryType) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn read_bytes(bytes: &[u8]) -> Result<Bundle, PackageError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.eli");
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

fn refusal(bytes: &[u8]) -> String {
    match read_bytes(bytes) {
        Err(PackageError::Unusable(sentence)) => sentence,
        other => panic!("not refused as unusable: {other:?}"),
    }
}

fn with(path: &str, kind: EntryType) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in parts() {
        add(&mut builder, &path, &content, EntryType::Regular);
    }
    add(&mut builder, path, b"", kind);
    builder.into_inner().unwrap()
}

#[test]
fn a_good_bundle_is_read() {
    let bytes = hello();
    let bundle = read_bytes(&bytes).unwrap();
    assert_eq!(bundle.manifest.name, "hello");
    assert_eq!(bundle.bytes, bytes.len() as u64);
    assert_eq!(bundle.sha256, hex::encode(Sha256::digest(&bytes)));
    assert_eq!(super::super::debs(&bundle.manifest), [DEB_FILE]);
}

#[test]
fn folders_more_files_and_more_zeros_are_fine() {
    let mut builder = Builder::new(Vec::new());
    let mut parts = parts();
    let (manifest, content) = parts.remove(0);
    add(&mut builder, &manifest, &content, EntryType::Regular);
    add(&mut builder, "debs/", b"", EntryType::Directory);
    for (path, content) in parts {
        add(&mut builder, &path, &content, EntryType::Regular);
    }
    add(&mut builder, "LICENSE", b"Apache-2.0", EntryType::Regular);
    let mut bytes = builder.into_inner().unwrap();
    // GNU tar fills up to 10240 bytes.
    bytes.resize(bytes.len().div_ceil(10240) * 10240, 0);
    read_bytes(&bytes).unwrap();
}

#[test]
fn every_place_to_cut_it_off_is_noticed() {
    let bytes = hello();
    let whole = bytes.len();
    for length in (0..whole - 1).step_by(97).chain((512..whole).step_by(512)).chain([whole - 1]) {
        let sentence = refusal(&bytes[..length]);
        assert!(
            sentence.contains("cut short") || sentence.contains("not a .eli bundle"),
            "{length}: {sentence}"
        );
    }
}

#[test]
fn what_is_no_bundle_is_said_so() {
    for bytes in [&b""[..], b"hello", &[0; 10240], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0], &vec![0x41; 10240]] {
        let sentence = refusal(bytes);
        assert!(sentence.starts_with("this is not a .eli bundle"), "{sentence}");
    }
    let mut bytes = hello();
    bytes[1100] ^= 1;
    refusal(&bytes);
    let mut bytes = hello();
    bytes.extend(b"more");
    assert_eq!(refusal(&bytes), "there is something after the end of the archive");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for (path, wrong) in [
        ("../etc/passwd", "has `..` in it"),
        ("debs/../../etc/passwd", "has `..` in it"),
        ("/etc/passwd", "is absolute"),
        ("./debs/x", "has an empty part"),
        ("debs//x", "has an empty part"),
        ("debs\\x", "backslashes"),
        ("de\nbs", "control characters"),
    ] {
        let sentence = refusal(&with(path, EntryType::Regular));
        assert!(sentence.contains(wrong), "{path}: {sentence}");
    }
}

#[test]
fn only_plain_files_are_taken() {
    for (kind, what) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
    ] {
        let sentence = refusal(&with("x", kind));
        assert!(sentence.contains(what), "{sentence}");
    }
}

#[test]
fn nothing_may_be_there_twice() {
    for path in [MANIFEST, DEB_FILE] {
        assert_eq!(refusal(&with(path, EntryType::Regular)), format!("{path} is in it twice"));
    }
    assert_eq!(refusal(&with(DEB_FILE, EntryType::Directory)), format!("{DEB_FILE} is in it twice"));
    let below = format!("{DEB_FILE}/x");
    assert!(refusal(&with(&below, EntryType::Regular)).contains("inside of something that is a file"));
}

#[test]
fn the_manifest_comes_first_and_all_it_names_is_there() {
    let mut parts = parts();
    parts.swap(0, 1);
    assert!(refusal(&pack(&parts)).contains("the first file of a bundle is manifest.toml"));
    parts.swap(0, 1);
    for missing in [1, 2] {
        let mut fewer = parts.clone();
        let (path, _) = fewer.remove(missing);
        assert_eq!(refusal(&pack(&fewer)), format!("{path}, which the manifest names, is not in the bundle"));
    }
}

#[test]
fn files_are_what_the_manifest_says() {
    let mut other = parts();
    other[1].1.push(0);
    assert!(refusal(&pack(&other)).contains("is not the file that the manifest means"));

    let mut no_deb = parts();
    no_deb[1].1 = b"PK\x03\x04, a zip".to_vec();
    let digest = hex::encode(Sha256::digest(&no_deb[1].1));
    no_deb[0].1 = HELLO.replace("DEB_SHA256", &digest).into_bytes();
    assert_eq!(refusal(&pack(&no_deb)), format!("{DEB_FILE} is not a Debian package"));

    let mut template = parts();
    template[2].1 = b"listen {{ service.prot }}".to_vec();
    assert!(refusal(&pack(&template)).contains("asks for service.prot, which is not a fact"));
    template[2].1 = vec![0xff, 0xfe];
    assert_eq!(refusal(&pack(&template)), "templates/site.conf is not UTF-8 text");

    let mut manifest = parts();
    manifest[0].1 = b"format = 1\nname = ".to_vec();
    assert!(refusal(&pack(&manifest)).starts_with("manifest.toml, line 2"));
}

#[test]
fn a_template_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.eli");
    std::fs::write(&path, hello()).unwrap();
    assert!(template(&path, "templates/site.conf").unwrap().starts_with("listen {{"));
    assert!(template(&path, "templates/other.conf").is_err());
}

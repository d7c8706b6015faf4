use super::*;

fn bundle(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("bundle.eli");
    let mut archive = tar::Builder::new(File::create(&path).unwrap());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // What no honest tool writes, byte by byte.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    path
}

#[test]
fn only_what_is_named_is_taken_out_and_in_that_order() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(
        dir.path(),
        &[
            ("manifest.toml", "m"),
            ("debs/b.deb", "second"),
            ("./debs/a.deb", "first"),
            ("../../etc/passwd", "evil"),
        ],
    );
    let wanted = ["debs/a.deb".to_owned(), "debs/b.deb".to_owned()];
    let debs = unpack(&bundle, &wanted, &dir.path().join("debs")).unwrap();
    let contents: Vec<String> = debs.iter().map(|deb| fs::read_to_string(deb).unwrap()).collect();
    assert_eq!(contents, ["first", "second"]);
    assert_eq!(fs::read_dir(dir.path().join("debs")).unwrap().count(), 2);

    // A name that leads out is never used as a path.
    let evil = unpack(&bundle, &["../../etc/passwd".to_owned()], &dir.path().join("debs")).unwrap();
    assert_eq!(evil, [dir.path().join("debs/000.deb")]);

    let error = unpack(&bundle, &["debs/c.deb".to_owned()], &dir.path().join("debs")).unwrap_err();
    assert_eq!(error.to_string(), "the bundle lacks debs/c.deb");
}

#[test]
fn a_truncated_bundle_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = bundle(dir.path(), &[("debs/a.deb", &"x".repeat(5000))]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..2000]).unwrap();
    assert!(unpack(&path, &["debs/a.deb".to_owned()], &dir.path().join("debs")).is_err());
    fs::write(&path, "not a tar at all, but long enough to be looked at".repeat(20)).unwrap();
    assert!(unpack(&path, &["debs/a.deb".to_owned()], &dir.path().join("debs")).is_err());
}

#[test]
fn names_paths_and_units_are_checked() {
    for bad in ["", "../x", ".x", "-x", "a/b", "a b"] {
        assert!(name(bad).is_err(), "{bad}");
    }
    for bad in ["", "x", "--now.service", "a b.service", "/x.service", "x.timer"] {
        assert!(unit(bad).is_err(), "{bad}");
    }
    for bad in ["", "etc/x", "/etc/../root/x", "/", "../x"] {
        let file = ConfigFile { path: bad.to_owned(), mode: 0o644, content: String::new() };
        assert!(config_path(&file).is_err(), "{bad}");
    }
    assert!(unit("hello-web.service").is_ok() && unit("getty@tty1.service").is_ok());
}

#[test]
fn records_come_back_as_they_were_kept() {
    let dir = tempfile::tempdir().unwrap();
    let packages = Packages::at(dir.path().join("software"));
    assert!(packages.records().unwrap().is_empty());
    let record = Record {
        name: "hello".to_owned(),
        version: "1.0.0".to_owned(),
        bundle_sha256: "ab".to_owned(),
        packages: vec!["hello-web".to_owned()],
        unit: "hello-web.service".to_owned(),
        files: vec![],
        installed: true,
        started_with: Some(vec![]),
    };
    packages.keep(&record).unwrap();
    assert_eq!(packages.records().unwrap(), BTreeMap::from([("hello".to_owned(), record)]));
    fs::write(dir.path().join("software/broken.json"), "{").unwrap();
    assert!(packages.records().is_err());
}
